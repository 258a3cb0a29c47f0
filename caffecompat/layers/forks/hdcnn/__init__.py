"""Layer types of HD-CNN."""
