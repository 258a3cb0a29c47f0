"""Shapes of nets."""
