"""Evaluation of a net: its scores on test data, and the times of its layers."""
