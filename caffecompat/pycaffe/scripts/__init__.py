"""Caffe's Python scripts as modules, e.g. ``python -m caffecompat.pycaffe.scripts.classify``."""
