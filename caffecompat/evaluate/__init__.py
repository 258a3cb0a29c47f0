"""Scoring a net on its test data, and timing its layers."""
