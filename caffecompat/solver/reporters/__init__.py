"""Callbacks that report a training: progress bar, remaining time, TensorBoard."""
