"""Layer types of the forks that run YOLO."""
