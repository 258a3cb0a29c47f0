"""Losses of maps of labels and of affinities."""
