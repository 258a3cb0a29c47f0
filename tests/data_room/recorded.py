"""Replays what Data and HDF5Data layers of BVLC Caffe yielded, from a folder of cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.hdf5_rows import open_hdf5_reader
from caffecompat.data.reader import open_reader
from caffecompat.errors import CaffeError
from caffecompat.proto.text import parse_text

COPIES = Path(__file__).resolve().parents[1] / "data" / "data_room"
CASES = json.loads((COPIES / "layers" / "index.json").read_text())

# JPEG decoders and conversion to gray may differ from the recording's by that many gray levels.
JPEG_TOLERANCE = 2

Passes = list[list[np.ndarray]]


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
    tolerance = JPEG_TOLERANCE if "encoded" in text else 0
    for number, blobs in enumerate(read_passes(case)):
        assert len(blobs) == len(case["blobs"])
        for name, found in zip(case["blobs"], blobs, strict=True):
            expected = recorded[f"{number}/{name}"]
            assert found.dtype == np.float32
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def read_passes(case: dict[str, Any]) -> Passes:
    """The tops of each pass of the case in the current folder."""
    net, _ = parse_text(Path("net.prototxt").read_text(), "NetParameter", "net.prototxt")
    (layer,) = net.layer
    if layer.type == "HDF5Data":
        rows = open_hdf5_reader(layer, seed=1)
        return _passes(rows.batch, case["passes"])
    with open_reader(layer, case["phase"], seed=1, workers=2) as reader:

        def tops(index: int) -> Sequence[np.ndarray]:
            batch = reader.batch(index)
            return [batch.data, batch.labels][: len(layer.top)]

        return _passes(tops, case["passes"])


def assert_one_sentence(message: str) -> None:
    assert "\n" not in message
    assert "Traceback" not in message
    assert len(message) < 400


def _passes(tops: Callable[[int], Sequence[np.ndarray]], count: int) -> Passes:
    return [list(tops(index)) for index in range(count)]
