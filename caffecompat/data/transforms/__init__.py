"""Transforms of decoded images: rescaling, crop, mirror, mean, colour shift, scale."""
