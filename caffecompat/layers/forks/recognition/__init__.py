"""Layer types of faces, metric learning and binary codes."""
