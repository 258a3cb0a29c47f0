"""Layer types of SubCNN."""
