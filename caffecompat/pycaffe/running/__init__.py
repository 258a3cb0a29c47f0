"""Running scripts that import caffe."""
