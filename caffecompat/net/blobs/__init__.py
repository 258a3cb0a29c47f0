"""Blobs of a net: values, gradients, inputs, and views for numpy."""
