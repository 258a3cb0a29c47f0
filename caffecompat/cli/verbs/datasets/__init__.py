"""Verbs that make, check and describe databases and image lists."""
