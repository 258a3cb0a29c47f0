"""Crops that wait for their arithmetic as bytes: the same numbers, bit for bit."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.data.codec import images
from caffecompat.data.loader.batch import Batch
from caffecompat.data.loader.crop_form import CropForm
from caffecompat.data.transforms.deferred_crops import DeferredCrops
from caffecompat.errors import DataError
from caffecompat.net import Net
from caffecompat.net.blobs.host_to_device import page_locked
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import datum, encoded_datum, reader, write_records
from tests.data.transforms.paper_input import COLOUR, PAPER, float_datum, noise, png

CUT: dict[str, Any] = {"crop_size": 9, "mirror": True}


def read_both_ways(
    path: str, last: bool = False, **options: Any
) -> tuple[list[Batch], list[Batch]]:
    """Three batches as floats, and the same with their arithmetic left to who takes them."""
    found = []
    for wanted in (False, True):
        with reader(path, **options) as opened:
            opened.defer_arithmetic(wanted, CropForm(channels_last=last))
            found.append([opened.batch(index) for index in range(3)])
    return found[0], found[1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        CUT,
        {**CUT, "scale": 1 / 255},
        {**CUT, "mean_value": [110.5], "scale": 0.017},
        {**CUT, "mean_value": [104.0, 117.1, 123.0], "scale": 0.1},
        {**CUT, **COLOUR, "mean_value": [104.3], "scale": 0.3},
        {**CUT, "crop_mean_file": "mean.binaryproto", "scale": 0.7},
        PAPER,
    ],
    ids=["whole", "cut", "scale", "mean", "means", "shift", "crop mean", "paper"],
)
@pytest.mark.parametrize("last", [False, True])
def test_numbers_are_those_of_the_transform(
    last: bool, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mean(np.random.default_rng(3).random((3, 9, 9), np.float32) * 200, "mean.binaryproto")
    shapes = [(3, 14, 14 if not fields else 14 + number) for number in range(5)]
    records = [datum(noise(*shape, seed=i), i) for i, shape in enumerate(shapes)]
    records += [encoded_datum(png(noise(3, 14, 14, seed=9)), 9)]
    path = write_records(tmp_path / "images", records)
    for floats, crops in zip(*read_both_ways(path, last, **fields), strict=True):
        assert isinstance(crops.blob, DeferredCrops)
        assert crops.blob.pixels.dtype == np.uint8
        innermost = crops.blob.pixels.transpose(0, 2, 3, 1) if last else crops.blob.pixels
        assert innermost.flags.c_contiguous
        np.testing.assert_array_equal(crops.data, floats.data)
        np.testing.assert_array_equal(crops.labels, floats.labels)


def test_a_mean_of_whole_records_does_not_wait(tmp_path: Path) -> None:
    mean = str(tmp_path / "mean.binaryproto")
    write_mean(np.random.default_rng(3).random((3, 14, 14), np.float32) * 200, mean)
    path = write_records(tmp_path / "images", [datum(noise(3, 14, 14, seed=i)) for i in range(5)])
    for floats, crops in zip(*read_both_ways(path, **CUT, mean_file=mean), strict=True):
        assert isinstance(crops.blob, np.ndarray)
        np.testing.assert_array_equal(crops.data, floats.data)


@pytest.mark.parametrize("last", [False, True])
def test_floats_among_bytes(last: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    records = [datum(noise(3, 10, 11, seed=i), i) for i in range(4)]
    records.insert(2, float_datum(rng.standard_normal((3, 10, 11)), 7))
    path = write_records(tmp_path / "mixed", records)
    fields = {**CUT, "scale": 0.3, "batch_size": 3}
    for floats, crops in zip(*read_both_ways(path, last, **fields), strict=True):
        np.testing.assert_array_equal(crops.data, floats.data)
        np.testing.assert_array_equal(crops.labels, floats.labels)


def test_a_float_record_of_another_size_is_named(tmp_path: Path) -> None:
    records = [datum(noise(3, 10, 11)), float_datum(np.zeros((3, 4, 4)))]
    path = write_records(tmp_path / "mixed", records)
    with reader(path, **CUT) as opened:
        opened.defer_arithmetic(True)
        with pytest.raises(DataError, match=r"mixed.*00000001_r.*4x4.*smaller than crop_size 9"):
            opened.batch(0)


NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  data_param {{ source: "{path}" backend: LMDB batch_size: 4 }}
  transform_param {{ crop_size: 9 mirror: true mean_value: 104.3 scale: 0.3 }} }}
"""


@pytest.mark.parametrize("form", [torch.preserve_format, torch.channels_last])
def test_a_net_that_finishes_them(
    form: torch.memory_format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU nets do; here it is pretended."""
    path = write_records(tmp_path / "images", [datum(noise(3, 14, 14, seed=i)) for i in range(5)])
    definition = tmp_path / "net.prototxt"
    definition.write_text(NET.format(path=path))
    found = []
    for on_gpu in (False, True):
        monkeypatch.setattr(Inputs, "_on_gpu", on_gpu)
        with closing(Net(definition, phase="train", seed=3)) as net:
            if form is torch.channels_last:
                net.channels_last()
            found.append([net.feeds(index)[0] for index in (0, 1, 5)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()


def test_reading_ahead_changes_nothing(tmp_path: Path) -> None:
    path = write_records(tmp_path / "images", [datum(noise(3, 14, 14, seed=i)) for i in range(5)])
    definition = tmp_path / "net.prototxt"
    definition.write_text(NET.format(path=path))
    with closing(Net(definition, phase="train", seed=3)) as net:
        plain = [net.feeds(index)[0].clone() for index in range(4)]
        for index in (0, 1, 3, 2):
            net.read_ahead(index)
            assert torch.equal(net.feeds(index)[0], plain[index])
            net.read_ahead(index + 1)
            assert torch.equal(net.feeds(index)[0], plain[index])


def test_the_memory_that_was_asked_for(tmp_path: Path) -> None:
    """Blocks are made by the given function, and used again when nobody holds them any more."""
    made: list[int] = []

    def allocate(size: int, dtype: np.dtype[Any]) -> np.ndarray:
        # A view of an array over a tensor, as page-locked memory is.
        array = torch.empty(size * dtype.itemsize, dtype=torch.uint8).numpy().view(dtype)
        made.append(array.ctypes.data)
        return array

    path = write_records(tmp_path / "images", [datum(noise(3, 14, 14, seed=i)) for i in range(5)])
    with reader(path, **CUT, prefetch=1) as opened:
        opened.defer_arithmetic(True, CropForm(True, allocate))
        held = opened.batch(0).blob
        assert isinstance(held, DeferredCrops)
        before = held.pixels.copy()
        for index in range(1, 12):
            pixels = opened.batch(index).blob
            assert isinstance(pixels, DeferredCrops)
            assert pixels.pixels.ctypes.data in made
            assert not np.shares_memory(pixels.pixels, held.pixels)
    assert np.array_equal(held.pixels, before)
    assert len(made) < 8


def test_page_locked_memory_or_any() -> None:
    array = page_locked(6, np.dtype(np.float32))
    assert array.shape == (6,)
    assert array.dtype == np.float32
    array[:] = 1
    assert torch.from_numpy(array).is_pinned() == torch.cuda.is_available()


def test_opencv_computes_in_the_workers(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    images._use_one_thread.cache_clear()
    before = cv2.getNumThreads()
    path = write_records(tmp_path / "images", [encoded_datum(png(noise(3, 9, 9)), 1)] * 3)
    try:
        cv2.setNumThreads(2)
        several = cv2.getNumThreads()
        with reader(path, workers=1) as opened:
            opened.batch(0)
        assert cv2.getNumThreads() == several
        with reader(path, workers=2) as opened:
            opened.batch(0)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)
        images._use_one_thread.cache_clear()
