"""The paper's nets build in both phases and train, on images of full size from an LMDB.

One has its 138 million parameters. The others have all their layers and a quarter of their
widths: what the widths are, tests/prototxt/test_prototxt_files.py compares with the paper.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import caffecompat
from caffecompat.data.tools.convert_imageset import convert_imageset
from caffecompat.data.tools.imageset_settings import ImagesetSettings

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOTXT = REPOSITORY / "prototxt"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three encoded records of different sizes, with labels of the ends of the range."""
    folder = tmp_path_factory.mktemp("records")
    random = np.random.default_rng(3)
    labels = (0, 573, 999)
    for label, size in zip(labels, ((224, 224), (256, 301), (259, 256)), strict=True):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"{label}.png"), pixels)
    lines = [f"{label}.png {label}" for label in labels]
    (folder / "list.txt").write_text("\n".join(lines) + "\n", "utf-8")
    target = str(folder / "lmdb")
    convert_imageset(f"{folder}/", str(folder / "list.txt"), target, ImagesetSettings(encoded=True))
    return target


FULL_SIZE = "D"
NARROW, FACTOR = 128, 4


def one_record_at_a_time(name: str, database: str) -> Any:
    """The solver with its net inside, fed from ``database`` with batches of one."""
    solver_name = f"solver_{name}.prototxt"
    message = caffecompat.read_solver(PROTOTXT / solver_name)
    net = caffecompat.read_net(REPOSITORY / message.net)
    for layer in net.layer:
        if layer.type == "Data":
            layer.data_param.source = database
            layer.data_param.batch_size = 1
        if name != FULL_SIZE and layer.name in ("fc6", "fc7"):
            layer.inner_product_param.num_output = NARROW
        elif name != FULL_SIZE and layer.type == "Convolution":
            layer.convolution_param.num_output //= FACTOR
    message.ClearField("net")
    message.ClearField("weights")
    message.net_param.CopyFrom(net)
    message.test_iter[:] = [2]
    message.random_seed = 5
    message.snapshot = 0
    message.snapshot_after_train = False
    return message


@pytest.fixture(autouse=True)
def give_memory_back(name: str) -> Iterator[None]:
    """A solver of 138 million parameters takes 1.7 GB, and is freed with the garbage only."""
    yield
    if name == FULL_SIZE:
        gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["A", "A-LRN", "B", "C", "D", "E", "B_5x5", "D_xavier", "D_S384", "D_multiscale"]
)
def test_builds_in_both_phases_and_trains_one_step(name: str, database: str) -> None:
    solver = caffecompat.Solver(one_record_at_a_time(name, database))
    try:
        (test_net,) = solver.test_nets
        outputs = test_net.run(0).outputs
        assert set(outputs) == {"accuracy/top-1", "accuracy/top-5", "loss"}
        # Before training the classes are about equally likely.
        assert float(outputs["loss"].detach()) == pytest.approx(np.log(1000), abs=0.7)
        weight, bias = solver.net.params["fc8"]
        before = weight.detach().clone(), bias.detach().clone()
        solver.step(1)
        assert solver.iter == 1
        assert not weight.equal(before[0])
        assert not bias.equal(before[1])
    finally:
        solver.close()
