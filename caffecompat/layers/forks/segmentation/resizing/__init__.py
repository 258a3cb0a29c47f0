"""Planes made larger or smaller: interpolation, unpooling."""
