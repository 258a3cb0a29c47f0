"""Predictions as detections, the files with them, and their evaluation."""
