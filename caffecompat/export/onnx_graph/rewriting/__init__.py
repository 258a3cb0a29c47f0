"""Changes of an ONNX graph that ONNX Runtime computes faster, one file each."""
