"""Layer types of SSD (single shot multibox detector) and of detectors that are built like it."""
