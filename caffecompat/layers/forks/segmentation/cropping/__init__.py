"""Crops whose offset follows from the net, or is the middle."""
