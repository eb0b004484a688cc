"""NeurIPT as other libraries expect a model: one file for each library."""
