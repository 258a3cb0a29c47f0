"""Replays what the data layers of BVLC Caffe yielded, from a folder of cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.loader.open import (
    open_hdf5_reader,
    open_image_reader,
    open_reader,
    open_window_reader,
)
from caffecompat.data.loader.prefetch import BatchReader
from caffecompat.data.read_options import ReadOptions
from caffecompat.errors import CaffeError
from caffecompat.layers import Context
from caffecompat.layers.memory_data import MemoryData
from caffecompat.proto.text.parser import parse_text
from tests.places import COPIES
from tests.sentences import assert_one_sentence

DATA = COPIES / "data"
CASES = json.loads((DATA / "layers" / "index.json").read_text())

# JPEG decoders and conversion to gray may differ from the recording's by that many gray levels.
JPEG_TOLERANCE = 2

OPTIONS = ReadOptions(seed=1, workers=2)
Tops = list[list[np.ndarray]]


def replay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one case from inside its folder and compare it with its recording."""
    monkeypatch.chdir(folder)
    case = json.loads(Path("case.json").read_text())
    if not case["works"]:
        with pytest.raises(CaffeError) as caught:
            read_passes(case)
        assert_one_sentence(str(caught.value))
        return
    recorded = np.load("out.npz")
    text = Path("net.prototxt").read_text()
    inexact = "encoded" in text or any(
        ".jp" in path.read_text() or "new_height" in text for path in Path().glob("list.txt")
    )
    inexact |= "WindowData" in text  # which resizes
    tolerance = JPEG_TOLERANCE if inexact else 0
    for number, blobs in enumerate(read_passes(case)):
        assert len(blobs) == len(case["blobs"])
        for name, found in zip(case["blobs"], blobs, strict=True):
            expected = recorded[f"{number}/{name}"]
            assert found.dtype == np.float32
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def read_passes(case: dict[str, Any]) -> Tops:
    """The tops of each pass of the case in the current folder."""
    net, _ = parse_text(Path("net.prototxt").read_text(), "NetParameter", "net.prototxt")
    (layer,) = net.layer
    if layer.type == "HDF5Data":
        rows = open_hdf5_reader(layer, OPTIONS)
        return _passes(rows.batch, case["passes"])
    if layer.type == "MemoryData":
        memory = _memory(layer, case["phase"])
        return _passes(lambda index: [*map(np.asarray, memory.read(index))], case["passes"])
    with _open(layer, case["phase"]) as reader:

        def tops(index: int) -> Sequence[np.ndarray]:
            batch = reader.batch(index)
            return [batch.data, batch.labels][: len(layer.top)]

        return _passes(tops, case["passes"])


def _open(layer: Any, phase: str) -> BatchReader:
    if layer.type == "ImageData":
        return open_image_reader(layer, phase, OPTIONS)
    if layer.type == "WindowData":
        return open_window_reader(layer, OPTIONS)
    assert layer.type == "Data"
    return open_reader(layer, phase, OPTIONS)


def _memory(layer: Any, phase: str) -> MemoryData:
    made = MemoryData(Context(phase, "net.prototxt:1: layer 'd' (MemoryData)"))
    made.setup(layer, [])
    if Path("memory.npz").exists():
        arrays = np.load("memory.npz")
        made.set(arrays["data"], arrays["label"])
    return made


def _passes(tops: Callable[[int], Sequence[np.ndarray]], count: int) -> Tops:
    return [list(tops(index)) for index in range(count)]
