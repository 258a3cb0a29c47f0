"""A small net of images with random weights, and images, for the tests of pycaffe."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffecompat.pycaffe.nets.net import Net
from caffecompat.pycaffe.proto import caffe_pb2

CLASSES = 4
NET = """
name: "small" input: "data" input_shape {{ dim: 3 dim: {channels} dim: {height} dim: {width} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{
  num_output: 5 kernel_size: 3 weight_filler {{ type: "gaussian" std: 0.3 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "c" top: "ip" inner_product_param {{
  num_output: 4 weight_filler {{ type: "gaussian" std: 0.2 }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "ip" top: "prob" }}
"""


def write_model(
    folder: Path, channels: int = 3, height: int = 8, width: int = 8
) -> tuple[str, str]:
    """Writes a definition and its weights; returns their paths."""
    model, weights = folder / "net.prototxt", folder / "net.caffemodel"
    model.write_text(NET.format(channels=channels, height=height, width=width))
    Net(str(model), caffe_pb2.TEST).save(str(weights))
    return str(model), str(weights)


def write_image(path: Path, height: int = 20, width: int = 24, seed: int = 0) -> np.ndarray:
    """Writes a random image; returns it as ``caffe.io.load_image`` reads it."""
    import cv2

    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    cv2.imwrite(str(path), pixels[:, :, ::-1])
    return (pixels / 255).astype(np.float32)
