"""The jobs that tools/kill_check.py kills, and their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffecompat.data.backends.database import create_database
from caffecompat.data.codec.images import encode_image
from caffecompat.proto import schema
from caffecompat.weights import LayerWeights, Weights, save_weights

INPUTS = "in"
_IMAGES = 2500
_RECORDS = 1200
Argv = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """What is run, killed and run again, in a folder of its own.

    Attributes:
        begin: arguments of caffecompat.
        again: those of the run after a kill.
        results: names of what others look for when it is done; a database is a folder.
        replaces: whether an older file may be in the place of the result.
        share: how many kills of a run go to it, relative to the others.
    """

    name: str
    begin: Argv
    again: Argv
    results: tuple[str, ...] = ()
    replaces: bool = False
    share: int = 1


def _training(rule: str, share: int) -> Job:
    begin = ("train", "--solver", f"{INPUTS}/{rule}.prototxt")
    return Job(f"train-{rule}", begin, (*begin, "--snapshot", "auto"), share=share)


def _conversion(target: str, *more: str) -> Job:
    argv = ("convert", f"{INPUTS}/weights.caffemodel", target, "--force", *more)
    return Job(f"convert-{target.partition('.')[2]}", argv, argv, (target,), True, 2)


def _rewriting(action: str, *sources: str, more: Argv = ()) -> Job:
    argv = ("dataset", action, *(f"{INPUTS}/{source}" for source in sources), "out", *more)
    return Job(f"dataset-{action}", argv, argv, ("out",), share=3)


_IMAGES_OF_LIST = (f"{INPUTS}/images/", f"{INPUTS}/list.txt", "out")
_LISTED = ("convert-imageset", "--shuffle", "--workers", "1", *_IMAGES_OF_LIST)
JOBS = (
    _training("sgd", 11),
    _training("adam", 11),
    Job("convert-imageset", _LISTED, (*_LISTED, "--resume"), ("out",), share=10),
    _rewriting("merge", "train_lmdb", "records_lmdb"),
    _rewriting("shuffle", "records_lmdb", more=("--seed", "3")),
    _rewriting("sample", "records_lmdb", more=("--count", "900", "--seed", "3")),
    _conversion("new.npz"),
    _conversion("new.pt"),
    _conversion("new.caffemodel.h5"),
    _conversion("new.caffemodel", "--format", "caffemodel-v1"),
)
_NET = """name: "digits"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 10 mirror: true scale: 0.0039 }
  data_param { source: "in/train_lmdb" batch_size: 8 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 10 scale: 0.0039 }
  data_param { source: "in/train_lmdb" batch_size: 8 backend: LMDB } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 300 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
_SOLVER = """net: "in/net.prototxt" test_iter: 2 test_interval: 7 lr_policy: "inv" gamma: 0.01
power: 0.75 max_iter: 30 display: 5 snapshot: 4 snapshot_prefix: "s" random_seed: 1
solver_mode: CPU snapshot_after_train: true
"""
_RULES = {
    "sgd": 'base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005 type: "SGD"',
    "adam": 'base_lr: 0.003 momentum: 0.9 momentum2: 0.99 type: "Adam" snapshot_format: HDF5',
}


def make_inputs(folder: Path) -> None:
    chance = np.random.Generator(np.random.PCG64(0))
    _make_records(folder / "train_lmdb", 60, 12, chance)
    _make_records(folder / "records_lmdb", _RECORDS, 8, chance)
    (folder / "net.prototxt").write_text(_NET)
    for name, lines in _RULES.items():
        (folder / f"{name}.prototxt").write_text(_SOLVER + lines + "\n")
    (folder / "images").mkdir()
    listed = []
    for number in range(_IMAGES):
        name = f"{number}.png"
        pixels = chance.integers(0, 256, (6, 6, 3), np.uint8)
        (folder / "images" / name).write_bytes(encode_image(pixels, "png"))
        listed.append(f"{name} {number % 5}\n")
    (folder / "list.txt").write_text("".join(listed))
    layers = [
        LayerWeights(
            f"fc{index}",
            "InnerProduct",
            [chance.random((400, 300), np.float32), chance.random(400, np.float32)],
        )
        for index in range(4)
    ]
    save_weights(Weights(layers, "net"), folder / "weights.caffemodel")


def _make_records(path: Path, count: int, side: int, chance: np.random.Generator) -> None:
    with create_database(path) as writer:
        records = []
        for number in range(count):
            datum = schema.new("Datum")
            datum.channels, datum.height, datum.width, datum.label = 1, side, side, number % 5
            datum.data = chance.bytes(side * side)
            records.append((b"%08d" % number, datum.SerializeToString(deterministic=True)))
        writer.write(records)
