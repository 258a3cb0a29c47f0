"""OpenCV's dnn, run in a process of its own, since damaged files can crash it."""
