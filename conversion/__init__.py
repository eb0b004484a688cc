"""From the authors' checkpoints to Hub folders."""
