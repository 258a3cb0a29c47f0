"""Detection nets for the tests of verbs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caffecompat import Net

SSD = """name: "one"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "whole" type: "Pooling" bottom: "data" top: "whole"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "loc" type: "InnerProduct" bottom: "whole" top: "loc"
  inner_product_param { num_output: 4 weight_filler { value: 0 } } }
layer { name: "conf" type: "InnerProduct" bottom: "whole" top: "conf"
  inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "conf" top: "prob" }
layer { name: "prior" type: "PriorBox" bottom: "whole" bottom: "data" top: "prior"
  prior_box_param { min_size: 4 } }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "prob" bottom: "prior" top: "out"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE confidence_threshold: 0.01 } }
"""


def model(folder: Path, text: str, **values: list[list[float]]) -> list[str]:
    """Flags for a net with these weights and biases (the last row) by layer."""
    prototxt = folder / "deploy.prototxt"
    prototxt.write_text(text)
    net = Net(prototxt)
    for name, rows in values.items():
        weights, *bias = net.params[name]
        shape = tuple(weights.shape)
        weights.data[...] = np.array(rows[: shape[0]], np.float32)
        if bias:
            bias[0].data[...] = np.array(rows[shape[0]], np.float32)
    net.save(folder / "net.caffemodel")
    return ["--model", str(prototxt), "--weights", str(folder / "net.caffemodel")]


def single_shot(folder: Path) -> list[str]:
    """Class 2 where the image is red, with a box twice as wide as its prior, 2 to 6 of 8."""
    locations: list[list[float]] = [*([0.0] * 3 for _ in range(4)), [0.0, 0.0, 10 * np.log(2), 0.0]]
    scores: list[list[float]] = [[0, 0, 0], [0, 0, 0], [0, 0, 0.01], [0, 0, 0]]
    return model(folder, SSD, loc=locations, conf=scores)
