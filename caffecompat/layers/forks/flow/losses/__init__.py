"""Losses of flow, with unknown values."""
