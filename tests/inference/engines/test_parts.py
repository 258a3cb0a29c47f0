"""Batches in parts, each of which one thread computes."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import numpy as np
import pytest

from caffecompat.errors import ExportError
from caffecompat.inference.onnx_model.parts import (
    LEAST_BLOB,
    PartsRun,
    reason_against_parts,
    takes_single_rows,
)
from tests.inference.engine_nets import LAYERS, built, conv, inner, simple
from tests.net.nets import net


class Worker:
    """Adds its number to the rows, and remembers how many each call has."""

    def __init__(self, number: float = 0) -> None:
        self.number = number
        self.calls: list[int] = []

    def __call__(self, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        self.calls.append(len(arrays[0]))
        return [arrays[0] * 2, arrays[0][:, :1] + arrays[1]]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("single_rows", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_the_rows_are_those_of_the_batch(rows: int, single_rows: bool, threads: int) -> None:
    first = np.arange(rows * 4.0).reshape(rows, 4)
    second = np.arange(rows * 1.0)[:, None] * 100
    worker = Worker()
    found = PartsRun([worker] * threads, single_rows)([first, second])
    wanted = Worker()([first, second])
    for each, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(each, other)
    parts = rows if single_rows else min(threads, rows)
    assert len(worker.calls) == parts
    assert max(worker.calls) - min(worker.calls) <= 1


def test_a_part_that_fails_fails_the_batch() -> None:
    failed = Event()

    def fails(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        failed.set()
        raise ExportError("out of memory")

    def waits(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        failed.wait()
        return arrays

    arrays = [np.zeros((2, 3)), np.zeros((2, 1))]
    for workers in ([fails, waits], [waits, fails]):
        failed.clear()
        with pytest.raises(ExportError, match="out of memory"):
            PartsRun(workers, single_rows=False)(arrays)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (LAYERS["residual"], ""),
        (
            [simple("Softmax", "s", "data", settings="softmax_param { axis: 0 }")],
            "layer 's' (Softmax) works along the first axis of the batch",
        ),
        (
            [
                simple("Reshape", "r", "data", "r", "reshape_param { shape { dim: 1 dim: -1 } }"),
                simple("Softmax", "s", "r", "s"),
            ],
            "the first axis of the tops of layer 'r' (Reshape) is not that of the inputs",
        ),
    ],
)
def test_nets_whose_rows_depend_on_each_other(layers: list[str], reason: str) -> None:
    assert reason_against_parts(built(layers)) == reason


def test_rows_one_by_one_for_images_that_fill_a_cache() -> None:
    text = (
        'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 1 '
        "dim: {0} dim: {0} }} }} }} layer {{ {1} }} layer {{ {2} }}"
    )
    side = int(LEAST_BLOB**0.5)
    small, large = conv("c", "data"), conv("c", "data", "stride: 4")
    assert not takes_single_rows(net(text.format(9, small, inner("f", "c"))))
    assert takes_single_rows(net(text.format(side, large, inner("f", "c"))))


def test_inner_products_whose_weights_no_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from caffecompat.inference.onnx_model import parts

    subject = built([conv("c", "data"), inner("f", "c")])
    monkeypatch.setattr(parts, "LEAST_BLOB", 1)
    assert takes_single_rows(subject)
    monkeypatch.setattr(parts, "MOST_WEIGHTS", 100)
    assert not takes_single_rows(subject)
