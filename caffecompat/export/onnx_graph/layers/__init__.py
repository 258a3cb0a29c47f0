"""The layer types that ONNX export knows; see caffecompat.export.onnx_graph.layer."""
