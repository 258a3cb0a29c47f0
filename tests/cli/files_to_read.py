"""A file of each kind that a verb reads, all of them small."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import cv2
import numpy as np

from caffecompat import Net, Solver
from caffecompat.weights.mean_file import write_mean

NET = """
name: "small"
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" root_folder: "images/" batch_size: 2 } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "snap"
random_seed: 1
"""
WINDOWS = NET.replace("ImageData", "WindowData").replace(
    'image_data_param { source: "list.txt" root_folder: "images/" batch_size: 2 }',
    'window_data_param { source: "windows.txt" root_folder: "images/" batch_size: 2 } '
    "transform_param { crop_size: 4 }",
)
ROWS = """
layer { name: "rows" type: "HDF5Data" top: "x" hdf5_data_param { source: "h5.txt" batch_size: 1 } }
"""
DEPLOY = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
"""
LOG = """\
I0210 13:39:19.381449 25210 solver.cpp:280] Solving small
I0210 13:39:20.381449 25210 solver.cpp:204] Iteration 0, loss = 1.5
I0210 13:39:21.381449 25210 solver.cpp:219]     Train net output #0: loss = 1.5 (* 1 = 1.5 loss)
I0210 13:39:22.381449 25210 sgd_solver.cpp:106] Iteration 0, lr = 0.01
"""


def write_files() -> None:
    """Writes them into the current folder."""
    _write_images()
    Path("net.prototxt").write_text(NET)
    Path("windows.prototxt").write_text(WINDOWS)
    Path("deploy6.prototxt").write_text(DEPLOY)
    Path("rows.prototxt").write_text(ROWS)
    Path("solver.prototxt").write_text(SOLVER)
    Path("train.log").write_text(LOG)
    _write_databases()
    _write_rows()
    net = Net("net.prototxt", phase="train")
    net.save("w.pt")
    net.save("w.caffemodel")
    net.close()
    _write_snapshot()
    _write_case()
    _write_boxes()


def _write_images() -> None:
    os.mkdir("images")
    for name in ("first.png", "second.png"):
        assert cv2.imwrite(f"images/{name}", np.full((6, 6, 3), 40, np.uint8))
    write_mean(np.zeros((3, 6, 6)), "mean.binaryproto")
    Path("list.txt").write_text("first.png 0\nsecond.png 1\n")
    Path("words.txt").write_text("first.png cat\nsecond.png dog\n")
    Path("names.txt").write_text("first.png\nsecond.png\n")
    Path("labels.txt").write_text("cat\ndog\nanother one\n")
    boxes = "2\n1 0.9 0 0 4 4\n0 0.1 0 0 5 5\n"
    Path("windows.txt").write_text(f"# 0\nfirst.png\n3\n6\n6\n{boxes}")


def _write_databases() -> None:
    pixels = np.zeros((4, 28, 28), np.uint8)
    heads = {"images": (2051, 4, 28, 28), "labels": (2049, 4)}
    for name, head in heads.items():
        content = pixels if name == "images" else np.array([0, 1, 0, 1], np.uint8)
        data = b"".join(number.to_bytes(4, "big") for number in head) + content.tobytes()
        Path(f"{name}.gz").write_bytes(gzip.compress(data))
    os.mkdir("cifar10")
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        Path("cifar10", name).write_bytes(bytes(3073))


def _write_rows() -> None:
    import h5py

    with h5py.File("rows.h5", "w") as file:
        file["x"] = np.zeros((2, 3), np.float32)
    Path("h5.txt").write_text("rows.h5 rows.h5\n")
    with h5py.File("features.h5", "w") as file:
        file["features"] = np.eye(6, 40, dtype=np.float32)
        file["labels"] = np.array([0, 1, 0, 1, 0, 1])


def _write_snapshot() -> None:
    """A snapshot in HDF5 under the prefix of a solver."""
    settings = SOLVER.replace('"snap"', '"start"') + "snapshot_format: HDF5"
    Path("h5.solver.prototxt").write_text(settings)
    Path("first.solver.prototxt").write_text(settings.replace("max_iter: 2", "max_iter: 1"))
    solver = Solver("first.solver.prototxt")
    solver.solve()
    solver.close()


def _write_case() -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 30 } } }
    layer { name: "y" type: "ReLU" bottom: "x" top: "y" }
    """
    Path("case.prototxt").write_text(text)
    ones = np.ones((2, 30), np.float32)
    np.savez("case.npz", **{"in/x": ones, "out/y": ones})  # type: ignore[arg-type]


def _write_boxes() -> None:
    os.mkdir("annotations")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
    Path("annotations/first.xml").write_text(f"<a><object><name>cat</name>{box}</object></a>")
    Path("boxes.txt").write_text("first.png 0 1 1 3 3\n")
    text = """
    layer { name: "data" type: "Input" top: "data"
      input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
    layer { name: "box" type: "InnerProduct" bottom: "data" top: "box"
      inner_product_param { num_output: 4 } }
    """
    Path("box.prototxt").write_text(text)
    Net("box.prototxt").save("box.caffemodel")
    rows = (
        text.replace("num_output: 4", "num_output: 7")
        + """
    layer { name: "rows" type: "Reshape" bottom: "box" top: "rows"
      reshape_param { shape { dim: 1 dim: 1 dim: 1 dim: 7 } } }
    """
    )
    Path("found.prototxt").write_text(rows)
    Net("found.prototxt").save("found.caffemodel")
    Path("labelmap.prototxt").write_text('item { name: "cat" label: 1 }')
    shutil.copy("annotations/first.xml", "images/first.xml")
    Path("annotated.txt").write_text("first.png first.xml\n")
