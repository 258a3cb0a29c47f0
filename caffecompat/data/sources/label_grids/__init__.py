"""Images with a label for each pixel, or for each of a grid of pixels."""
