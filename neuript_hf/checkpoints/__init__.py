"""Checkpoint folders: saving, verifying, whom the weights have seen."""
