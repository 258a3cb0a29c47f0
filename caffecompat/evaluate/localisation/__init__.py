"""Localisation: one bounding box for each of the most likely classes (VGG paper, Appendix A)."""
