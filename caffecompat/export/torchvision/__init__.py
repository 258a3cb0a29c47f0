"""torchvision's parameter names for Caffe nets of the same architecture."""
