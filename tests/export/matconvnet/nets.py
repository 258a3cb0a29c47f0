"""Nets that are written as MatConvNet's files, and what converts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.preprocessing import Preprocessing

scipy_io: Any = pytest.importorskip("scipy.io")

CHAIN = """
name: "chain"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 16 dim: 12 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 pad: 1 stride: 2
                            weight_filler { type: "msra" } bias_filler { type: "uniform" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
        lrn_param { local_size: 3 alpha: 0.3 beta: 0.75 k: 2 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
        pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
        convolution_param { num_output: 6 kernel_size: 3 pad: 1 group: 2
                            weight_filler { type: "msra" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
BRANCHED = """
name: "branched"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 bias_term: false
                            weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "bn1_scale" type: "Scale" bottom: "conv1" top: "conv1"
        scale_param { bias_term: true } }
layer { name: "a" type: "Convolution" bottom: "conv1" top: "a"
        convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "sum" type: "Eltwise" bottom: "conv1" bottom: "a" top: "sum" }
layer { name: "both" type: "Concat" bottom: "sum" bottom: "a" top: "both" }
layer { name: "mean" type: "Pooling" bottom: "both" top: "mean"
        pooling_param { pool: AVE global_pooling: true } }
"""
HOW = Preprocessing("BGR", (1.0, 2.0, 3.0), 1.0, 16, (16, 12), ("cat", "dog"))


SEGMENTATION = """
name: "segmentation"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 9 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1
                            weight_filler { type: "msra" } } }
layer { name: "up" type: "Deconvolution" bottom: "conv1" top: "up"
        convolution_param { num_output: 6 kernel_h: 4 kernel_w: 3 stride: 2 pad_h: 1 pad_w: 0
                            group: 2 weight_filler { type: "msra" }
                            bias_filler { type: "uniform" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "conv1" top: "crop"
        crop_param { axis: 2 offset: 1 offset: 3 } }
"""
REGIONS = """
name: "regions"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 20 dim: 24 } } }
layer { name: "rois" type: "Input" top: "rois" input_param { shape { dim: 1 dim: 5 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "pool" type: "ROIPooling" bottom: "conv1" bottom: "rois" top: "pool"
        roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "msra" } } }
"""


def run(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def written(text: str, folder: Path) -> Net:
    """The net with random values, as net.prototxt and net.caffemodel."""
    (folder / "net.prototxt").write_text(text)
    net = Net(folder / "net.prototxt", seed=3)
    random = np.random.default_rng(5)
    for name in ("bn1", "bn1_scale"):
        for blob in net.params.get(name, ()):
            blob.data[...] = random.uniform(0.5, 2, blob.data.shape)
    net.save(folder / "net.caffemodel")
    (folder / "net.caffemodel.preprocessing.json").write_text(HOW.to_json())
    return net


def output(net: Net) -> np.ndarray:
    shape = net.blobs["data"].shape
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    (found,) = net.forward(data=x).values()
    return found.reshape(-1)


def there_and_back(text: str, folder: Path) -> tuple[Net, Net]:
    net = written(text, folder)
    assert run(folder / "net.caffemodel", folder / "net.mat") == 0
    assert run(folder / "net.mat", folder / "back.caffemodel") == 0
    return net, Net(folder / "back.prototxt", weights=folder / "back.caffemodel")


def dag_of(text: str, folder: Path, name: str, **changes: Any) -> Path:
    """net.mat of a net, one layer's block changed."""
    written(text, folder)
    assert run(folder / "net.caffemodel", folder / "net.mat") == 0
    content = scipy_io.loadmat(folder / "net.mat")
    for layer in content["layers"].flat:
        if layer["name"].item() == name:
            for key, value in changes.items():
                layer["block"][key][0, 0] = np.asarray(value)
    scipy_io.savemat(
        folder / "changed.mat", {k: v for k, v in content.items() if not k.startswith("__")}
    )
    return folder / "changed.mat"
