"""Pre-training and fine-tuning through `Trainer`."""
