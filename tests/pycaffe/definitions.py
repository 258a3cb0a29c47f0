"""Small nets for the tests of the pycaffe interface."""

from __future__ import annotations

from pathlib import Path

from caffecompat import pycaffe as caffe

# Random data, constant labels that a script fills in, a loss.
CLASSIFIER = """name: "small" force_backward: true
layer { type: "DummyData" name: "data" top: "data" top: "label" dummy_data_param {
  shape { dim: 4 dim: 2 dim: 5 dim: 6 } shape { dim: 4 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "constant" } } }
layer { type: "Convolution" name: "conv" bottom: "data" top: "conv" convolution_param {
  num_output: 3 kernel_size: 2 weight_filler { type: "gaussian" std: 1 }
  bias_filler { type: "constant" value: 2 } } }
layer { type: "ReLU" name: "relu" bottom: "conv" top: "conv" }
layer { type: "InnerProduct" name: "ip" bottom: "conv" top: "score" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 0.5 } } }
layer { type: "SoftmaxWithLoss" name: "loss" bottom: "score" bottom: "label" top: "loss" }
"""

# An input, no loss.
DEPLOY = """name: "deploy" force_backward: true
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param {
  filler { value: 3 } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param {
  pool: AVE global_pooling: true } }
layer { name: "prob" type: "Softmax" bottom: "pool" top: "prob" }
"""


def built(folder: Path, text: str, phase: int = caffe.TEST, **keywords: object) -> caffe.Net:
    """The net of a definition, which is written into ``folder``."""
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), phase, **keywords)
