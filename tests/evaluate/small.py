"""A small net without padding, its weights, and image files to evaluate it on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffecompat.data.preprocessing import Preprocessing
from caffecompat.export.model import CaffeModel
from caffecompat.net import Net
from caffecompat.net.definition import read_definition
from caffecompat.proto.text.parser import parse_text

CLASSES = 6
CROP = (14, 10)
# Without padding, and pooling that rounds up, a value of the dense map is what the plain net gives
# for its window.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 14 dim: 10 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 4 kernel_size: 2 stride: 2
                            weight_filler { type: "xavier" } } }
layer { name: "fc6" type: "InnerProduct" bottom: "conv2" top: "fc6"
        inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" }
layer { name: "fc8" type: "InnerProduct" bottom: "fc6" top: "fc8"
        inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.7 } } }
layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }
"""
STRIDE = 2
PREPROCESSING = Preprocessing(mean=(104.0, 117.0, 123.0), scale=0.02)


def small_model(net: str = NET, seed: int = 3) -> CaffeModel:
    message = parse_text(net, "NetParameter")[0]
    weights = Net(message, seed=seed).to_weights()
    return CaffeModel(read_definition(message), weights, PREPROCESSING, "net.caffemodel")


def write_images(folder: Path, count: int = 7, seed: int = 1) -> str:
    """Images of several sizes, and a list of them; returns the list's path."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    sizes = [(21, 30), (30, 21), (17, 17), (21, 30), (40, 19)]
    lines = []
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        lines.append(f"{number}.png {number % CLASSES}")
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n")
    return str(path)
