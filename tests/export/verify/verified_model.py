"""A model and its ONNX file, which tests compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.export.model import CaffeModel
from caffecompat.export.targets.onnx import Onnx
from tests.export.models import model_of

TEXT = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 } }
"""


def with_onnx(folder: Path, model: CaffeModel | None = None) -> Path:
    pytest.importorskip("onnx")
    Onnx().write(model or model_of(TEXT), folder / "net.onnx")
    return folder / "net.onnx"
