"""Passes on a GPU: CUDA graphs, fused layers, 16-bit weights, cuDNN, TF32."""
