"""Crop, mirror, mean and scale."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.loader.batch import Batch
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError, FileProblem
from caffecompat.proto import schema
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import batches, numbered

CENTRAL = Augmentation(None, None, mirror=False)
FLIPPED = Augmentation(None, None, mirror=True)
PIXELS = np.arange(2 * 6 * 9, dtype=np.uint8).reshape(2, 6, 9)


def transform(phase: str = "TEST", **fields: Any) -> Transform:
    message = schema.new("TransformationParameter")
    for name, value in fields.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return Transform(message, phase)


def applied(
    made: Transform, choice: Augmentation = CENTRAL, pixels: np.ndarray = PIXELS
) -> np.ndarray:
    channels, height, width = pixels.shape
    out = np.full(made.output_shape((channels, height, width)), np.nan, np.float32)
    made.apply(pixels, choice, out)
    return out


@pytest.mark.parametrize(
    ("crop", "top", "left"), [(1, 2, 4), (3, 1, 3), (4, 1, 2), (5, 0, 2), (6, 0, 1)]
)
def test_the_central_crop_rounds_its_offset_down(crop: int, top: int, left: int) -> None:
    window = PIXELS[:, top : top + crop, left : left + crop]
    assert np.array_equal(applied(transform(crop_size=crop)), window)


def test_random_crops_reach_both_ends() -> None:
    made = transform("TRAIN", crop_size=4)
    last = (1 << 64) - 1
    assert np.array_equal(applied(made, Augmentation(0, last, False)), PIXELS[:, :4, 5:])
    assert np.array_equal(applied(made, Augmentation(last, 0, False)), PIXELS[:, 2:, :4])


def test_mirror_flips_the_window_left_to_right() -> None:
    out = applied(transform(crop_size=3), FLIPPED)
    assert np.array_equal(out, PIXELS[:, 1:4, 3:6][:, :, ::-1])


def test_mean_first_then_scale_in_single_precision() -> None:
    out = applied(transform(mean_value=[100.1], scale=0.3))
    expected = (PIXELS.astype(np.float32) - np.float32(100.1)) * np.float32(0.3)
    assert np.array_equal(out, expected)


def test_one_mean_per_channel() -> None:
    out = applied(transform(mean_value=[10, 20.5]))
    assert np.array_equal(out, PIXELS - np.array([[[10]], [[20.5]]], np.float32))


def test_the_mean_image_is_cut_where_the_window_is_and_not_mirrored(tmp_path: Path) -> None:
    mean = np.random.default_rng(1).random((2, 6, 9)).astype(np.float32) * 255
    write_mean(mean, tmp_path / "mean.binaryproto")
    made = transform(mean_file=str(tmp_path / "mean.binaryproto"), crop_size=3, scale=2)
    window = np.s_[:, 1:4, 3:6]
    expected = ((PIXELS[window] - mean[window]) * np.float32(2))[:, :, ::-1]
    assert np.array_equal(applied(made, FLIPPED), expected)


def test_floats_are_transformed_too() -> None:
    values = np.linspace(-1, 1, 2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    out = applied(transform(scale=4, mean_value=[0.5]), FLIPPED, values)
    assert np.array_equal(out, ((values - np.float32(0.5)) * np.float32(4))[:, :, ::-1])


def test_the_record_is_not_changed() -> None:
    values = np.ones((1, 2, 3), np.float32)
    applied(transform(scale=4, mean_value=[0.5]), FLIPPED, values)
    assert np.array_equal(values, np.ones((1, 2, 3)))


def test_without_mirror_nothing_is_flipped() -> None:
    assert not any(
        choice.mirror for choice in transform("TRAIN").draw_augmentations(0, np.arange(100))
    )


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_mirror_is_by_chance_in_both_phases(phase: str) -> None:
    flips = [
        choice.mirror
        for choice in transform(phase, mirror=True).draw_augmentations(0, np.arange(400))
    ]
    assert 160 < sum(flips) < 240


def test_crops_are_central_in_test_and_random_in_train() -> None:
    assert {c.row for c in transform("TEST", crop_size=3).draw_augmentations(0, np.arange(9))} == {
        None
    }
    assert (
        len({c.row for c in transform("TRAIN", crop_size=3).draw_augmentations(0, np.arange(9))})
        == 9
    )


def test_offsets_and_flips_of_a_run_are_uniform_and_independent(tmp_path: Path) -> None:
    database = numbered(tmp_path / "db", 5, (1, 5, 6))
    made = batches(database, range(120), batch_size=25, seed=3, crop_size=3, mirror=True)
    seen = Counter(place for batch in made for place in places(batch, height=5, width=6))
    # 3 rows, 4 columns, 2 directions; every crop is a true window of its record.
    assert set(seen) == {
        (row, col, flip) for row in range(3) for col in range(4) for flip in (0, 1)
    }
    expected = 3000 / 24
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values())
    assert chi_square < 23 + 4 * np.sqrt(46)


def places(batch: Batch, height: int, width: int) -> list[tuple[int, int, int]]:
    """Where each 3x3 sample was cut from a record of :func:`numbered`, and if it is flipped."""
    found = []
    for sample, label in zip(batch.data, batch.labels, strict=True):
        whole = (np.arange(height * width).reshape(1, height, width) + 5 * label) % 251
        matches = [
            (row, column, flip)
            for row in range(height - 2)
            for column in range(width - 2)
            for flip in (0, 1)
            if np.array_equal(
                sample, whole[:, row : row + 3, column : column + 3][:, :, :: 1 - 2 * flip]
            )
        ]
        assert len(matches) == 1
        found += matches
    return found


def test_forcing_a_colour_on_raw_records_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    made = transform(force_gray=True)
    raw = schema.new("Datum")
    raw.channels, raw.height, raw.width, raw.data = 3, 1, 1, b"abc"
    with caplog.at_level(logging.WARNING):
        assert made.decode(raw).shape == made.decode(raw).shape == (3, 1, 1)
    assert caplog.messages == ["force_color and force_gray only for encoded datum"]


def test_mean_file_and_mean_value_exclude_each_other() -> None:
    with pytest.raises(DataError, match=r"mean_file 'm.binaryproto' and mean_value are both given"):
        transform(mean_file="m.binaryproto", mean_value=[1.0])


def test_a_missing_mean_file_is_named() -> None:
    with pytest.raises(FileProblem, match=r"nosuch\.binaryproto"):
        transform(mean_file="nosuch.binaryproto")


@pytest.mark.parametrize("record", [(3, 6, 9), (2, 5, 9), (2, 6, 8)])
def test_a_mean_image_of_another_size_is_refused(
    record: tuple[int, int, int], tmp_path: Path
) -> None:
    write_mean(np.zeros((2, 6, 9), np.float32), tmp_path / "m")
    made = transform(mean_file=str(tmp_path / "m"), crop_size=2)
    with pytest.raises(DataError, match=f"it is {'x'.join(map(str, record))}.* is 2x6x9"):
        made.output_shape(record)


@pytest.mark.parametrize("count", [2, 4])
def test_means_must_be_one_or_one_per_channel(count: int) -> None:
    with pytest.raises(DataError, match=f"has 3 channels, .* {count} mean_value"):
        transform(mean_value=[1.0] * count).output_shape((3, 5, 7))


@pytest.mark.parametrize("size", [(6, 9), (9, 6)])
def test_a_crop_larger_than_the_record_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"it is {size[0]}x{size[1]}.*smaller than crop_size 7"):
        transform(crop_size=7).output_shape((3, *size))


def test_a_record_of_another_shape_than_the_batch_is_refused() -> None:
    with pytest.raises(DataError, match=r"it is 2x6x9.* makes it 2x6x8"):
        transform().apply(PIXELS, CENTRAL, np.empty((2, 6, 8), np.float32))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_interleaved_and_planar_pixels_give_the_same(channels: int, mirror: bool) -> None:
    planar = np.random.default_rng(0).integers(0, 256, (channels, 11, 33), np.uint8)
    interleaved = np.ascontiguousarray(planar.transpose(1, 2, 0)).transpose(2, 0, 1)
    message = schema.new("TransformationParameter")
    message.crop_size, message.scale = 9, 0.5
    message.mean_value.extend(float(number) + 0.25 for number in range(channels))
    transform = Transform(message, "TEST")
    found = []
    for pixels in (planar, interleaved, planar.astype(np.float32)):
        out = np.empty((channels, 9, 9), np.float32)
        transform.apply(pixels, Augmentation(None, None, mirror), out)
        found.append(out)
    window = planar[:, 1:10, 12:21][:, :, :: -1 if mirror else 1].astype(np.float32)
    expected = (window - np.array(message.mean_value, np.float32)[:, None, None]) * 0.5
    assert all(np.array_equal(out, expected) for out in found)


def test_a_pixel_of_many_channels() -> None:
    pixels = np.arange(200, dtype=np.uint8).reshape(200, 1, 1)
    out = np.empty((200, 1, 1), np.float32)
    Transform(schema.new("TransformationParameter"), "TEST").apply(
        pixels, Augmentation(None, None, False), out
    )
    assert np.array_equal(out, pixels)
