"""Torch operators as Caffe layers, one file per family."""
