"""What a classifier's answers rest on: channels, times and frequency bands, attention, experts, and their figures."""
