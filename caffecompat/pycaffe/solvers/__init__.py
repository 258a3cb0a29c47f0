"""pycaffe's solvers and their settings."""
