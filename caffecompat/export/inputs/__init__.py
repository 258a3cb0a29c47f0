"""Inputs of a net that is converted: their layers, their sizes, those that are no images."""
