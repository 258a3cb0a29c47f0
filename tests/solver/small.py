"""Small trainings made on the spot."""

from __future__ import annotations

from pathlib import Path

import lmdb
import numpy as np

from caffecompat.proto import schema

NET = """
name: "small"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
  data_param {{ source: "{folder}/train_lmdb" backend: LMDB batch_size: 3 }}
  transform_param {{ crop_size: 5 mirror: true scale: 0.0078125 mean_value: 110 }} }}
layer {{ name: "tested" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  data_param {{ source: "{folder}/train_lmdb" backend: LMDB batch_size: 2 }}
  transform_param {{ crop_size: 5 scale: 0.0078125 mean_value: 110 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }}
layer {{ name: "relu" type: "ReLU" bottom: "norm" top: "norm" }}
layer {{ name: "drop" type: "Dropout" bottom: "norm" top: "norm"
  dropout_param {{ dropout_ratio: 0.4 }} }}
layer {{ name: "score" type: "InnerProduct" bottom: "norm" top: "score"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 0.1 }} }} }}
layer {{ name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy"
  include {{ phase: TEST }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }}
"""

SOLVER = """
net: "{folder}/net.prototxt"
test_iter: 2 test_interval: 4
base_lr: 0.05 lr_policy: "multistep" gamma: 0.5 stepvalue: 3 stepvalue: 9
momentum: 0.9 weight_decay: 0.01 iter_size: 2
display: 1 average_loss: 3 max_iter: 12
snapshot: 5 snapshot_prefix: "{folder}/snap"
"""


def write_training(folder: Path, more: str = "random_seed: 7", solver: str = SOLVER) -> Path:
    """A net with dropout, batch normalisation, random crops and flips, and its solver.

    The records are 11 images of 6x7 pixels in random colours.

    Returns:
        The solver's path.
    """
    folder.mkdir(exist_ok=True)
    write_records(folder / "train_lmdb", 11, (3, 6, 7))
    (folder / "net.prototxt").write_text(NET.format(folder=folder))
    path = folder / "small.solver.prototxt"
    path.write_text(solver.format(folder=folder) + more)
    return path


def write_records(path: Path, count: int, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(5)
    with lmdb.open(str(path), map_size=1 << 20) as environment, environment.begin(write=True) as t:
        for i in range(count):
            datum = schema.new("Datum")
            datum.channels, datum.height, datum.width = shape
            label = i % 3
            pixels = random.integers(60 * label, 60 * label + 120, shape, dtype=np.uint8)
            datum.data = pixels.tobytes()
            datum.label = label
            t.put(f"{i:08d}_{i}".encode(), datum.SerializeToString())
