"""Readers of files that MNE does not read, or not as their users mean them."""
