"""Batches, which background threads make in advance."""
