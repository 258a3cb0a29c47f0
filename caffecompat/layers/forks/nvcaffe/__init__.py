"""Layer types that NVIDIA's Caffe defines differently."""
