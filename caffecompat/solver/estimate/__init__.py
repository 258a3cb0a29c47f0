"""Estimates of the memory, disk space and iterations of a training."""
