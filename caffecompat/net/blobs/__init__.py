"""Blobs of a net: values, gradients, inputs, and their views for numpy."""
