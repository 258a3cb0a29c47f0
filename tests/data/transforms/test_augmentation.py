"""The paper's training input: rescaling to S, crop, flip, colour shift, mean of crops."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.loader.batch import Batch
from caffecompat.data.loader.open_readers import open_image_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError
from caffecompat.proto.text.parser import parse_text
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import batches, datum, encoded_datum, reader, write_records
from tests.data.transforms.paper_input import (
    COLOUR,
    DIRECTIONS,
    JITTER,
    PAPER,
    VALUES,
    float_datum,
    noise,
    png,
    transform,
)
from tests.layers.messages import message
from tests.places import REPOSITORY


def ramps(height: int, width: int) -> np.ndarray:
    """Each pixel's column and row, which bilinear interpolation keeps away from the edges."""
    row, column = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([column, row])


def places(batch: Batch, height: int, width: int, crop: int) -> list[tuple[int, int, int, bool]]:
    """S, offsets and flip of each sample of :func:`ramps`, read from its pixels alone."""
    found = []
    middle = crop // 2
    for columns, rows in batch.data:
        step = float(columns[0, middle + 1] - columns[0, middle])
        scale = abs(step)
        at = crop - 1 - middle if step < 0 else middle
        left = (columns[0, middle] + 0.5) / scale - 0.5 - at
        step_down = float(rows[middle + 1, 0] - rows[middle, 0])
        top = (rows[middle, 0] + 0.5) / step_down - 0.5 - middle
        side = min(height, width) / step_down
        for value in (left, top, side):
            assert abs(value - round(value)) < 0.02
        found.append((round(side), round(top), round(left), step < 0))
    return found


def chi_square_fits(counts: Counter[Any], values: int) -> bool:
    expected = sum(counts.values()) / values
    found = sum((count - expected) ** 2 / expected for count in counts.values())
    found += (values - len(counts)) * expected
    return bool(found < values - 1 + 4.5 * np.sqrt(2 * values))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("size", "side", "expected", "method"),
    [
        ((21, 34), 13, (13, 21), cv2.INTER_LINEAR),
        ((34, 21), 13, (21, 13), cv2.INTER_LINEAR),
        ((21, 34), 29, (29, 47), cv2.INTER_LINEAR),
        ((21, 34), 21, (21, 34), None),
        ((21, 34), 11, (11, 18), cv2.INTER_LINEAR),
        ((21, 34), 10, (10, 16), cv2.INTER_AREA),
        ((22, 35), 11, (11, 18), cv2.INTER_AREA),
    ],
)
def test_the_whole_image_is_scaled_so_that_its_smallest_side_is_s(
    size: tuple[int, int],
    side: int,
    expected: tuple[int, int],
    method: int | None,
    phase: str,
    tmp_path: Path,
) -> None:
    pixels = noise(3, *size)
    path = write_records(tmp_path / "db", [encoded_datum(png(pixels))])
    fields = {"img_rand_resize_lower": side, "img_rand_resize_upper": side}
    (batch,) = batches(path, [0], phase=phase, batch_size=1, **fields)
    image = pixels.transpose(1, 2, 0)
    if method is not None:
        image = cv2.resize(image, expected[::-1], interpolation=method)
    assert batch.data.shape == (1, 3, *expected)
    assert np.array_equal(batch.data[0], image.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 15, 27])
def test_raw_and_encoded_records_are_scaled_alike(channels: int, side: int, tmp_path: Path) -> None:
    pixels = noise(channels, 19, 26)
    path = write_records(tmp_path / "db", [datum(pixels), encoded_datum(png(pixels))])
    fields = {"img_rand_resize_lower": side, "img_rand_resize_upper": side}
    (batch,) = batches(path, [0], phase="TEST", batch_size=2, crop_size=7, **fields)
    assert np.array_equal(batch.data[0], batch.data[1])
    assert batch.data[0].std() > 5


@pytest.mark.parametrize("channels", [2, 5, 7])
def test_records_of_any_number_of_channels_are_scaled(channels: int, tmp_path: Path) -> None:
    values = noise(channels, 9, 12).astype(np.float32) / 3
    path = write_records(tmp_path / "db", [float_datum(values)])
    fields = {"img_rand_resize_lower": 6, "img_rand_resize_upper": 6}
    (batch,) = batches(path, [0], phase="TEST", batch_size=1, **fields)
    for plane, found in zip(values, batch.data[0], strict=True):
        np.testing.assert_allclose(found, cv2.resize(plane, (8, 6)), rtol=1e-6)


def test_s_offsets_and_flips_of_a_run_are_uniform(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [float_datum(ramps(20, 31))])
    made = batches(path, range(30), batch_size=200, seed=4, crop_size=13, mirror=True, **JITTER)
    found = [place for batch in made for place in places(batch, 20, 31, 13)]
    assert chi_square_fits(Counter(side for side, *_ in found), 4)
    assert {side for side, *_ in found} == {16, 17, 18, 19}
    for side, width in ((16, 25), (17, 26), (18, 28), (19, 29)):
        chosen = [place for place in found if place[0] == side]
        rows, columns = side - 13 + 1, width - 13 + 1
        assert {row for _, row, _, _ in chosen} == set(range(rows))
        assert {column for _, _, column, _ in chosen} == set(range(columns))
        assert chi_square_fits(Counter(row for _, row, _, _ in chosen), rows)
        assert chi_square_fits(Counter(column for _, _, column, _ in chosen), columns)
        both = Counter((row, flip) for _, row, _, flip in chosen)
        assert chi_square_fits(both, 2 * rows)
    flips = sum(flip for *_, flip in found)
    assert abs(flips - 3000) < 4.5 * np.sqrt(6000 / 4)


def test_s_is_drawn_from_the_range_with_both_ends() -> None:
    made = transform(img_rand_resize_lower=256, img_rand_resize_upper=512)
    sides = [choice.resizing for choice in made.draw_augmentations(3, np.arange(257 * 100))]
    assert {min(s for s in sides if s), max(s for s in sides if s)} == {(256,), (512,)}
    assert chi_square_fits(Counter(sides), 257)


def test_s_is_drawn_anew_for_each_image_and_pass(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(noise(1, 20, 31, seed)) for seed in range(2)])
    fields: dict[str, Any] = {"img_rand_resize_lower": 10, "img_rand_resize_upper": 40}
    shapes = [b.data.shape for b in batches(path, range(40), batch_size=1, **fields)]
    assert len(set(shapes[::2])) > 5
    assert len(set(shapes[1::2])) > 5
    with reader(path, batch_size=1, **fields) as opened:
        assert [opened.shape(index) for index in range(40)] == shapes


@pytest.mark.parametrize(("lower", "upper", "middle"), [(16, 24, 20), (17, 22, 19), (18, 18, 18)])
def test_in_test_s_is_the_middle_and_nothing_is_left_to_chance(
    lower: int, upper: int, middle: int, tmp_path: Path
) -> None:
    path = write_records(tmp_path / "db", [datum(noise(3, 23, 30, seed)) for seed in range(3)])
    fields = {
        **COLOUR,
        "crop_size": 13,
        "img_rand_resize_lower": lower,
        "img_rand_resize_upper": upper,
    }
    first, second = (
        batches(path, [0, 1], phase="TEST", batch_size=3, seed=seed, **fields) for seed in (1, 2)
    )
    for batch in (*first, *second):
        assert np.array_equal(batch.data, first[0].data)
    plain = {"img_rand_resize_lower": middle, "img_rand_resize_upper": middle, "crop_size": 13}
    assert np.array_equal(
        batches(path, [0], phase="TEST", batch_size=3, **plain)[0].data, first[0].data
    )


def test_in_test_only_the_middle_must_hold_the_crop() -> None:
    fields = {"img_rand_resize_lower": 10, "img_rand_resize_upper": 20, "crop_size": 15}
    transform("TEST", **fields)
    with pytest.raises(DataError, match="may be 10 pixels in TRAIN, less than crop_size 15"):
        transform("TRAIN", **fields)


def test_the_colour_shift_has_the_covariance_it_should_have() -> None:
    made = transform(**COLOUR)
    count = 40_000
    shifts = np.array(
        [choice.shift for choice in made.draw_augmentations(5, np.arange(count))], np.float64
    )
    expected = DIRECTIONS.T @ np.diag(0.01 * np.square(VALUES)) @ DIRECTIONS
    variances = np.diag(expected)
    found = shifts.T @ shifts / count
    error = np.sqrt((np.outer(variances, variances) + expected**2) / count)
    assert (np.abs(found - expected) < 4.5 * error).all()
    assert (np.abs(shifts.mean(axis=0)) < 4.5 * np.sqrt(variances / count)).all()
    # Along each direction alone, and without relation between them.
    along = shifts @ DIRECTIONS.T / (0.1 * np.array(VALUES))
    assert (np.abs(np.corrcoef(along.T) - np.eye(3)) < 4.5 / np.sqrt(count)).all()
    assert (np.abs((along**4).mean(axis=0) - 3) < 4.5 * np.sqrt(96 / count)).all()


def test_the_shift_is_one_colour_for_all_pixels_before_the_scale(tmp_path: Path) -> None:
    pixels = noise(3, 6, 9)
    path = write_records(tmp_path / "db", [datum(pixels)])
    made = transform(**COLOUR)
    fields = {**COLOUR, "scale": 0.25, "mean_value": [100.0, 110.5, 120.0]}
    (batch,) = batches(path, [0], batch_size=5, seed=7, **fields)
    mean = np.array([100.0, 110.5, 120.0])[:, None, None]
    for sample, choice in zip(batch.data, made.draw_augmentations(7, np.arange(5)), strict=True):
        assert choice.shift is not None
        expected = (pixels - mean + choice.shift[:, None, None]) * 0.25
        np.testing.assert_allclose(sample, expected, atol=1e-4)
    assert len({sample.tobytes() for sample in batch.data}) == 5


def test_a_factor_of_its_own_for_each_direction(tmp_path: Path) -> None:
    one = {"colour_shift_std": 0.5, "colour_eigenvalue": [3.0], "colour_eigenvector": [1.0, -2.0]}
    path = write_records(tmp_path / "db", [datum(np.zeros((2, 2, 3)))])
    (batch,) = batches(path, [0], batch_size=9, **one)
    assert np.array_equal(batch.data[:, 1], -2 * batch.data[:, 0])
    assert len(np.unique(batch.data[:, 0])) == 9


def test_gray_images_are_shifted_by_directions_of_one_channel(tmp_path: Path) -> None:
    fields = {"colour_shift_std": 0.5, "colour_eigenvalue": [3.0], "colour_eigenvector": [1.0]}
    path = write_records(tmp_path / "db", [datum(np.full((1, 2, 3), 8))])
    (batch,) = batches(path, [0], batch_size=4, **fields)
    assert (batch.data.std(axis=(1, 2, 3)) < 1e-6).all()
    assert batch.data.std() > 0.3


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    return write_records(
        tmp_path / "pictures",
        [encoded_datum(png(noise(3, 20 + n % 3, 31 - n, n)), n) for n in range(7)],
    )


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_the_number_of_workers_and_the_order_do_not_matter(pictures: str, phase: str) -> None:
    runs = [
        batches(pictures, order, phase=phase, batch_size=6, workers=workers, prefetch=2, **PAPER)
        for order, workers in (([0, 1, 2, 3], 1), ([0, 1, 2, 3], 3), ([3, 1, 2, 0], 2))
    ]
    runs[2] = [runs[2][3], runs[2][1], runs[2][2], runs[2][0]]
    for first, second, third in zip(*runs, strict=True):
        assert np.array_equal(first.data, second.data)
        assert np.array_equal(first.data, third.data)


def test_the_seed_decides_all(pictures: str) -> None:
    made = [batches(pictures, [0], seed=seed, **PAPER)[0].data for seed in (1, 1, 2)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_extensions_leave_crops_and_flips_of_a_seed_as_they_were() -> None:
    plain = transform(crop_size=5, mirror=True).draw_augmentations(9, np.arange(50))
    full = transform(**{**PAPER, "crop_size": 5}).draw_augmentations(9, np.arange(50))
    assert [(c.row, c.column, c.mirror) for c in plain] == [
        (c.row, c.column, c.mirror) for c in full
    ]


def test_image_data_gives_the_pixels_of_a_database(pictures: str, tmp_path: Path) -> None:
    for number in range(7):
        pixels = noise(3, 20 + number % 3, 31 - number, number)
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
    lines = "".join(f"{tmp_path}/{number}.png {number}\n" for number in range(7))
    (tmp_path / "list.txt").write_text(lines)
    vectors = " ".join(f"colour_eigenvector: {float(v)!r}" for v in DIRECTIONS.ravel())
    text = (
        f"image_data_param {{ source: '{tmp_path}/list.txt' batch_size: 5 }} transform_param {{ "
        "crop_size: 13 mirror: true img_rand_resize_lower: 16 img_rand_resize_upper: 19 "
        f"scale: 0.5 mean_value: 104 mean_value: 117 mean_value: 123 colour_shift_std: 0.1 "
        f"colour_eigenvalue: [55.46, 4.794, 1.148] {vectors} }}"
    )
    expected = batches(pictures, range(3), batch_size=5, seed=2, **PAPER)
    with open_image_reader(message("ImageData", text, 2), "TRAIN", ReadOptions(2, 2)) as opened:
        for index, batch in enumerate(expected):
            assert np.array_equal(opened.batch(index).data, batch.data)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_mean_of_crops_is_subtracted_as_it_is_flipped_or_not(
    mirror: bool, tmp_path: Path
) -> None:
    mean = np.random.default_rng(2).random((2, 3, 3)).astype(np.float32) * 200
    write_mean(mean, tmp_path / "crop_mean.binaryproto")
    fields = {"crop_mean_file": str(tmp_path / "crop_mean.binaryproto"), "crop_size": 3, "scale": 2}
    pixels = noise(2, 6, 9)
    out = np.empty((2, 3, 3), np.float32)
    transform("TEST", **fields).apply(pixels, Augmentation(None, None, mirror), out)
    window = pixels[:, 1:4, 3:6][:, :, :: -1 if mirror else 1]
    assert np.array_equal(out, (window - mean) * np.float32(2))
    with pytest.raises(DataError, match="it has 3 channels, but the mean in crop_mean_file has 2"):
        transform("TEST", **fields).output_shape((3, 6, 9))


def test_the_example_of_the_documentation_is_the_papers_input() -> None:
    text = (REPOSITORY / "docs" / "data.md").read_text()
    start = text.index("transform_param {\n  img_rand")
    fields = parse_text(text[start : text.index("```", start)], "LayerParameter")[0].transform_param
    vectors = np.array(fields.colour_eigenvector).reshape(3, 3)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-3)
    # The strongest direction is brightness: B, G and R alike.
    assert np.ptp(vectors[0]) < 0.02
    choices = Transform(fields, "TRAIN").draw_augmentations(1, np.arange(100))
    assert all(c.resizing is not None and 256 <= c.resizing[0] <= 512 for c in choices)
    assert all(c.shift is not None for c in choices)
