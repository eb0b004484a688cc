"""Scores with intervals over people, frozen fits, and the methods to compare with."""
