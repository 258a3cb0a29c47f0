"""Batches, decoded ahead in background threads."""
