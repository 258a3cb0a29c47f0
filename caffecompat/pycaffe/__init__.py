"""pycaffe: the Python interface of Caffe, on this package."""
