"""The arithmetic of crops: images with channels side by side give the numbers of planes."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from caffecompat.data.codec.float_pixels import per_channel
from caffecompat.data.transforms import crop_arithmetic
from caffecompat.data.transforms.crop_arithmetic import Crop, CropArithmetic, CropMean

Floats = NDArray[np.float32]


def mean_of(kind: str, random: np.random.Generator, shape: tuple[int, int, int]) -> CropMean | None:
    channels, height, width = shape
    scale = np.float32(random.choice([1e-30, 0.3, 255, 1e30]))
    if kind == "none":
        return None
    if kind == "whole numbers":
        return CropMean(random.integers(0, 256, channels).astype(np.float32))
    if kind == "one":
        return CropMean(random.random(1, np.float32) * scale)
    if kind == "channels":
        return CropMean((random.random(channels, np.float32) - np.float32(0.5)) * scale)
    if kind == "crop":
        return CropMean(random.random(shape, np.float32) * scale)
    if kind == "middle":
        return CropMean(random.random(shape, np.float32) * scale, is_flipped=True)
    image = random.random((channels, height + 3, width + 5), np.float32) * scale
    return CropMean(image, is_cut=True, is_flipped=True)


MEANS = ["none", "whole numbers", "one", "channels", "crop", "middle", "image"]


@given(
    kind=st.sampled_from(MEANS),
    shape=st.tuples(st.integers(2, 4), st.integers(1, 9), st.integers(1, 40)),
    corner=st.tuples(st.integers(0, 3), st.integers(0, 5)),
    mirror=st.booleans(),
    shifts=st.booleans(),
    scale=st.sampled_from([1.0, 0.1, -3.0]),
    strip=st.sampled_from([1, 500, 1 << 20]),
    seed=st.integers(0, 2**32),
)
def test_pixels_and_planes_give_the_same_bits(
    kind: str,
    shape: tuple[int, int, int],
    corner: tuple[int, int],
    mirror: bool,
    shifts: bool,
    scale: float,
    strip: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    channels, height, width = shape
    arithmetic = CropArithmetic(mean_of(kind, random, shape), np.float32(scale))
    shift = random.standard_normal(channels).astype(np.float32) if shifts else None
    (top, left), whole = corner, (height + 3, width + 5, channels)
    image = random.integers(0, 256, whole, np.uint8).transpose(2, 0, 1)
    window = image[:, top : top + height, left : left + width]
    found, expected = (np.full((3, *shape), np.nan, np.float32) for _ in range(2))
    with patch.object(crop_arithmetic, "_STRIP_BYTES", strip):
        arithmetic.apply(Crop(window, corner, mirror, shift), found[1])
    arithmetic.apply(Crop(np.ascontiguousarray(window), corner, mirror, shift), expected[1])
    # Bytes, which tell 0 from -0; and the rows before and after are left alone.
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("mirror", [False, True])
def test_rows_of_a_batch_in_any_order_of_memory(step: int, mirror: bool) -> None:
    random = np.random.default_rng(5)
    image = random.integers(0, 256, (6, 7, 3), np.uint8).transpose(2, 0, 1)
    mean = np.array([104.25, 117.5, 123], np.float32)
    arithmetic = CropArithmetic(CropMean(mean), np.float32(0.5))
    last = np.empty((6, 7 * step, 3), np.float32).transpose(2, 0, 1)[:, :, ::step]
    gaps = np.empty((3, 6, 7 * step), np.float32)[:, :, ::step]
    reversed_planes = np.empty((3, 6, 7), np.float32)[::-1]
    expected = (image.astype(np.float32) - mean[:, None, None]) * np.float32(0.5)
    for out in (last, gaps, reversed_planes):
        arithmetic.apply(Crop(image, (0, 0), mirror), out)
        assert np.array_equal(out, expected[:, :, ::-1] if mirror else expected)


def test_crops_of_several_sizes_in_turn() -> None:
    arithmetic = CropArithmetic(None, np.float32(1))
    for shape in ((3, 5, 4), (2, 5, 4), (3, 4, 5), (3, 5, 4)):
        image = np.arange(np.prod(shape), dtype=np.uint8).reshape(*shape[1:], shape[0])
        out = np.empty(shape, np.float32)
        arithmetic.apply(Crop(image.transpose(2, 0, 1), (0, 0), False), out)
        assert np.array_equal(out, image.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([5], (5, 5, 5, 5)), ([5, 6], (5, 6, 0, 0)), ([1, 2, 3, 4], (1, 2, 3, 4))],
)
def test_opencv_takes_four_numbers(values: list[float], expected: tuple[float, ...]) -> None:
    assert per_channel(values) == expected
