"""Small nets that tests build, as prototxt text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffecompat import Net
from caffecompat.proto.text.parser import parse_text

CLASSIFIER = """
name: "small"
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 3 dim: 2 dim: 7 dim: 5 } shape { dim: 3 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1
                            weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc"
        inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.3 }
                              bias_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss"
        include { phase: TRAIN } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" include { phase: TEST } }
"""


def message(text: str) -> Any:
    return parse_text(text, "NetParameter", "test.prototxt")[0]


def net(text: str, **options: Any) -> Net:
    return Net(message(text), **options)


def saved(folder: Path, text: str, name: str = "net.prototxt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def batch(seed: int = 1) -> dict[str, np.ndarray]:
    """Inputs of :data:`CLASSIFIER`."""
    rng = np.random.default_rng(seed)
    return {
        "data": rng.standard_normal((3, 2, 7, 5)).astype(np.float32),
        "label": np.array([1, 5, 0], dtype=np.float32),
    }
