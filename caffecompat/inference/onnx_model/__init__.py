"""A net as an ONNX model, for engines that run such models."""
