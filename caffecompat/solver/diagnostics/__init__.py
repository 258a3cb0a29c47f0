"""What can be wrong in a training: values that are not finite, labels, debug_info."""
