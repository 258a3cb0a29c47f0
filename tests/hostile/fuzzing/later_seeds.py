"""Valid files of kinds that are not Caffe's: models of other programs, lists, results, scripts."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np

from caffecompat.cli.main import main
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.evaluate.classification import posteriors
from caffecompat.evaluate.features.feature_file import FeatureSet, save_features
from caffecompat.net import Net
from caffecompat.weights import save_weights
from tests.export.matconvnet.mat_7_3 import save_mat

NET = """name: "net"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
LABEL_MAP = b"""item { name: "none" label: 0 display_name: "background" }
item { name: "cat" label: 1 }
item { name: "dog" label: 2 display_name: "Dog" }
"""
ANNOTATION = b"""<annotation><size><width>16</width><height>12</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>7</xmax><ymax>9</ymax></bndbox></object>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>16</xmax><ymax>12</ymax></bndbox>
</object></annotation>
"""
# The same as SSD's scripts write it, and as text.
BOX = {"category_id": "cat", "bbox": [2, 3, 5, 6], "iscrowd": 0}
COCO = json.dumps({"image": {"width": 16, "height": 12}, "annotation": [BOX, BOX]}).encode()
BOXES = b"1 2 3 7 9\n2 1 1 16 12\n"
SCRIPT = b"""import caffe
from caffe import layers as L
net = caffe.Net('deploy.prototxt', caffe.TEST)
for name in net.blobs.keys():
    print name, net.blobs[name].data[...]
solver = caffe.get_solver("solver.prototxt")
solver.step(1)
"""
CELLS = [{"cell_type": "code", "source": ["%matplotlib inline\n", SCRIPT.decode()]}]
NOTEBOOK = json.dumps({"cells": CELLS, "nbformat": 4}).encode()
# Names with a label, a size, boxes, frames; files with words below them.
LISTS = [
    b"a.png 3\nb c.jpg 1\n\nd.png 0\r\n",
    b"a.png 12 16\nb.jpg 8 10\n",
    b"a.png 2 1 2 7 9\nb.jpg 0 3 3 5 5\n",
    b"videos/a 16 3\nvideos/b 9 1\n",
    b"# 0\na.png\n3 12 16\n1\n1 0 2 3 7 9 0\n2\n2 3 7 9\n1 1 5 5\n",
    b"00000000_a.png 3\n00000001_b.png -1\n",
]
IDX = b"\0\0\x08\x03" + bytes([0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]) + bytes(range(24))


def later_files(folder: Path) -> dict[str, list[bytes]]:
    """All of them by kind; what conversions make lies in ``folder``."""
    made = _models(folder)
    made["label-map"] = [LABEL_MAP]
    made["annotations"] = [ANNOTATION, COCO, BOXES]
    made["script"] = [SCRIPT, NOTEBOOK]
    made["list"] = LISTS
    made["idx"] = [IDX]
    values = Preprocessing(crop=(8, 6), mean=(1.0, 2.0, 3.0), scale=0.5, labels=("cat", "dog"))
    made["preprocessing"] = [values.to_json().encode()]
    return {**made, **_results(folder)}


def _models(folder: Path) -> dict[str, list[bytes]]:
    (folder / "net.prototxt").write_text(NET)
    save_weights(Net(str(folder / "net.prototxt")).to_weights(), folder / "net.caffemodel")
    model = ["--model", str(folder / "net.prototxt"), "--no-verify"]
    with contextlib.redirect_stdout(io.StringIO()):
        for name in ("net.onnx", "net.mat"):
            command = ["convert", str(folder / "net.caffemodel"), str(folder / name)]
            assert main([*command, *model]) == 0
    save_mat(
        folder / "new.mat", {"net": {"layers": [{"type": "relu", "name": "x"}], "n": np.eye(3)}}
    )
    return {
        "onnx": [(folder / "net.onnx").read_bytes()],
        "mat": [(folder / "net.mat").read_bytes()],
        "mat-7.3": [(folder / "new.mat").read_bytes()],
    }


def _results(folder: Path) -> dict[str, list[bytes]]:
    """What evaluate and features write."""
    numbers = np.array([0, 1]), np.array([2, 0]), np.full((2, 3), 0.25, np.float32)
    found = posteriors.Posteriors(("a.png", "b.png"), *numbers, {"scales": [256]})
    posteriors.save(found, folder / "x.posteriors.npz")
    posteriors.save(found, folder / "x.posteriors.h5")
    features = FeatureSet(np.ones((2, 3), np.float32), np.array([0, 1]), ("a.png", "b.png"), ())
    save_features(features, str(folder / "x.features.h5"))
    return {
        "posteriors": [(folder / "x.posteriors.npz").read_bytes()],
        "posteriors-hdf5": [(folder / "x.posteriors.h5").read_bytes()],
        "features": [(folder / "x.features.h5").read_bytes()],
    }
