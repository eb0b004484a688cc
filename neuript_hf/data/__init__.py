"""From recordings to batches: manifests, windows, prepared data sets, collators."""
