"""Data layers with a label for each pixel."""
