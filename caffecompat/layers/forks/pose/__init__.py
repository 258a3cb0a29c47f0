"""Layer types of pose estimation."""
