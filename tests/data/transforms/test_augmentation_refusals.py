"""Refusals of rescaling, colour shifts and means of crops: definitions and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.loader.open_readers import open_window_reader
from caffecompat.errors import DataError, LayerError
from caffecompat.layers import Context
from caffecompat.layers.hdf5_data import HDF5Data
from caffecompat.layers.memory_data import MemoryData
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import batches, datum, write_records
from tests.data.transforms.paper_input import COLOUR, JITTER, noise, transform
from tests.layers.messages import message
from tests.sentences import assert_one_sentence

BOTH = "give both, the upper one at least as large"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"img_rand_resize_lower": 9}, BOTH),
        ({"img_rand_resize_upper": 9}, BOTH),
        ({"img_rand_resize_lower": 9, "img_rand_resize_upper": 8}, BOTH),
        ({**JITTER, "crop_size": 17}, "may be 16 pixels in TRAIN, less than crop_size 17"),
        ({"colour_shift_std": 0.1}, "there are 0 colour_eigenvalue and 0 colour_eigenvector"),
        ({**COLOUR, "colour_eigenvalue": [1.0, 2.0]}, "2 colour_eigenvalue and 9 colour_eigenv"),
        ({**COLOUR, "colour_eigenvector": [1.0, 2.0]}, "3 colour_eigenvalue and 2 colour_eigenv"),
        ({**COLOUR, "colour_shift_std": -0.1}, r"colour_shift_std \(-0.1\) not below 0"),
        ({**COLOUR, "colour_eigenvalue": [1.0, 2.0, float("nan")]}, "must be finite"),
        ({"crop_mean_file": "m", "mean_value": [1.0]}, "crop_mean_file 'm' and mean_value are"),
        ({"crop_mean_file": "m", "mean_file": "n"}, "crop_mean_file 'm' and mean_file are"),
    ],
)
def test_definitions_without_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        transform(**fields)
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("crop", [0, 4])
def test_a_crop_mean_of_another_size_is_refused(crop: int, tmp_path: Path) -> None:
    write_mean(np.zeros((3, 5, 5), np.float32), tmp_path / "m")
    with pytest.raises(DataError, match=f"is 3x5x5 .* but crop_size is {crop}") as caught:
        transform(crop_mean_file=str(tmp_path / "m"), crop_size=crop)
    assert_one_sentence(str(caught.value).replace(str(tmp_path), ""))


def test_a_gray_image_with_colours_of_three_channels_is_named(tmp_path: Path) -> None:
    records = [datum(noise(3, 20, 20)), datum(noise(1, 20, 20))]
    path = write_records(tmp_path / "db", records)
    words = r"record 1 \(key '00000001_r'\): it has 1 channels, but each direction in colour_eig"
    with pytest.raises(DataError, match=words):
        batches(path, [1], batch_size=1, **COLOUR)
    assert batches(path, [1], phase="TEST", batch_size=1, **COLOUR)[0].data.shape == (1, 1, 20, 20)


def test_an_image_that_would_become_too_long_is_named(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(np.zeros((1, 1, 2000)))])
    words = r"record 0 .* is 1x2000 .* become 17x34000 with its smallest side of 17"
    with pytest.raises(DataError, match=words):
        batches(path, [0], batch_size=1, img_rand_resize_lower=17, img_rand_resize_upper=17)


@pytest.mark.parametrize(
    "field",
    [
        "img_rand_resize_lower: 9",
        "img_rand_resize_upper: 9",
        "colour_shift_std: 0.1",
        "colour_eigenvalue: 1",
        "colour_eigenvector: 1",
        "crop_mean_file: 'm'",
    ],
)
def test_layers_that_do_not_support_a_field_refuse_it(field: str) -> None:
    name = field.partition(":")[0]
    given = f"transform_param {{ crop_size: 3 {field} }}"
    windows = message("WindowData", f"window_data_param {{ batch_size: 2 }} {given}", 2)
    with pytest.raises(DataError, match=f"WindowData does not support {name}") as caught:
        open_window_reader(windows)
    assert_one_sentence(str(caught.value))
    param = "memory_data_param { batch_size: 2 channels: 1 height: 3 width: 4 }"
    memory = MemoryData(Context("TRAIN", "net:1: layer 'm' (MemoryData)"))
    with pytest.raises(
        DataError, match=f"^net:1: layer 'm' .*: MemoryData does not support {name}"
    ):
        memory.setup(message("MemoryData", f"{param} {given}", 2), [])
    rows = HDF5Data(Context("TRAIN", "net:1: layer 'h' (HDF5Data)"))
    with pytest.raises((DataError, LayerError), match="HDF5Data does not transform data"):
        rows.setup(message("HDF5Data", f"hdf5_data_param {{ batch_size: 2 }} {given}", 2), [])
