"""Diagnostics of a training: values that are not finite, wrong labels, ``debug_info``."""
