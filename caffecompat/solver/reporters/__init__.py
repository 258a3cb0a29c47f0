"""Callbacks that show a training: the progress bar, TensorBoard."""
