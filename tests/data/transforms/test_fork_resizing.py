"""Images that forks resize before they are cropped."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError, LayerError
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import batches, datum, write_records
from tests.data.transforms.paper_input import noise, transform
from tests.net.nets import net

STRETCH: dict[str, Any] = {
    "vertical_stretch_lower": 0.5,
    "vertical_stretch_upper": 0.8,
    "horizontal_stretch_lower": 0.7,
    "horizontal_stretch_upper": 0.9,
}


def sizes(record: tuple[int, int, int], count: int, **fields: Any) -> np.ndarray:
    """Heights and widths, (count, 2), that samples of this shape have before the crop."""
    made = transform(**fields)
    drawn = made.draw_augmentations(3, np.arange(count))
    return np.array([made.place(record, one).image for one in drawn])


def test_each_side_is_stretched_by_a_factor_of_its_own() -> None:
    found = sizes((3, 200, 100), 400, **STRETCH)
    assert (found.min(0) >= [100, 70]).all()
    assert (found.max(0) <= [160, 90]).all()
    assert (found.max(0) - found.min(0) > [55, 18]).all()
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.2


def test_stretches_follow_the_scale_and_keep_the_crop() -> None:
    fields = {**STRETCH, "img_rand_resize_lower": 40, "img_rand_resize_upper": 50}
    found = sizes((3, 200, 100), 400, **fields)
    assert found[:, 0].min() >= 40
    assert found[:, 0].max() <= 80
    assert found[:, 1].min() >= 28
    assert found[:, 1].max() <= 45
    held = sizes((3, 200, 100), 50, **fields, crop_size=60)
    assert held.min() == 60


@pytest.mark.parametrize(("upscale", "most"), [(False, 100), (True, 150)])
def test_images_grow_only_where_allowed(upscale: bool, most: int) -> None:
    fields = {"vertical_stretch_lower": 0.9, "vertical_stretch_upper": 1.5}
    found = sizes((3, 100, 200), 400, **fields, allow_upscale=upscale)
    assert most - 5 < found[:, 0].max() <= most
    assert (found[:, 1] == 200).all()


def test_ratio_of_the_sides() -> None:
    fields = {"rand_resize_ratio_lower": 1.0, "rand_resize_ratio_upper": 2.0, "allow_upscale": True}
    found = sizes((3, 80, 200), 200, **fields)
    assert (found[:, 0] == 80).all()
    assert 80 <= found[:, 1].min() < 90 < 150 < found[:, 1].max() <= 160
    squares = sizes((3, 80, 80), 200, **fields)
    assert (squares.min(1) == 80).all()
    assert 60 < (squares[:, 0] > 80).sum() < 140


@pytest.mark.parametrize(
    ("fields", "size", "method"),
    [
        ({"resize_size": 7}, (7, 7), cv2.INTER_LINEAR),
        ({"resize_short_side_min": 6, "resize_short_side_max": 6}, (6, 10), cv2.INTER_LINEAR),
        (
            {"vertical_stretch_lower": 0.5, "vertical_stretch_upper": 0.5},
            (6, 19),
            cv2.INTER_NEAREST,
        ),
        (
            {
                "vertical_stretch_lower": 2,
                "vertical_stretch_upper": 2,
                "allow_upscale": True,
                "interpolation_algo_up": 3,
            },
            (24, 19),
            cv2.INTER_AREA,
        ),
    ],
)
def test_pixels(fields: dict[str, Any], size: tuple[int, int], method: int) -> None:
    pixels = noise(3, 12, 19)
    made = transform("TEST", **fields)
    (drawn,) = made.draw_augmentations(3, np.arange(1))
    out = np.empty((3, *size), np.float32)
    made.apply(pixels, drawn, out)
    expected = cv2.resize(pixels.transpose(1, 2, 0), size[::-1], interpolation=method)
    assert np.array_equal(out, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("record", [(3, 40, 61), (3, 61, 40)])
def test_shorter_sides(record: tuple[int, int, int]) -> None:
    found = sizes(record, 200, resize_short_side_min=20, resize_short_side_max=23)
    assert set(found.min(1)) == {20, 21, 22, 23}
    ratio = np.float32(61) / np.float32(40)
    assert all(longer == ceil(ratio * np.float32(short)) for short, longer in np.sort(found, 1))
    assert (found[:, 0] > found[:, 1]).all() == (record[1] > record[2])


@pytest.mark.parametrize("mirror", [True, False])
def test_the_middle_of_the_mean_is_subtracted(mirror: bool, tmp_path: Path) -> None:
    mean = np.arange(2 * 8 * 9, dtype=np.float32).reshape(2, 8, 9)
    write_mean(mean, tmp_path / "m")
    fields: dict[str, Any] = {"mean_file": str(tmp_path / "m"), "crop_size": 4, "resize_size": 6}
    pixels = noise(2, 6, 6)
    out = np.empty((2, 4, 4), np.float32)
    transform("TEST", **fields).apply(pixels, Augmentation(None, None, mirror, (6.0,)), out)
    expected = pixels[:, 1:5, 1:5].astype(np.float32) - mean[:, 2:6, 2:6]
    assert np.array_equal(out, expected[:, :, :: -1 if mirror else 1])
    with pytest.raises(DataError, match=r"is 2x8x9 .* and crop_size 0; its middle"):
        transform(**{**fields, "crop_size": 0})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"resize_size": 6, "vertical_stretch_lower": 2}, "fields of different Caffe versions"),
        ({"resize_size": 6, "resize_short_side_min": 2}, "are both given"),
        ({"resize_short_side_min": 2}, "resize_short_side_max is 0; give both"),
        ({**STRETCH, "img_rand_resize_lower": 9, "img_rand_resize_upper": 8}, "9 is above"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        transform(**fields)


def test_sides_beyond_opencv() -> None:
    with pytest.raises(DataError, match=r"is 1x4000 .* with its smallest side of 9"):
        sizes((1, 1, 4000), 1, resize_short_side_min=9, resize_short_side_max=9)


DATA = """
layer { name: "d" type: "Data" top: "d" top: "l"
        data_param { source: "%s" batch_size: 3 backend: LMDB %s }
        transform_param { %s } }
"""


def test_selected_records(tmp_path: Path) -> None:
    records = [datum(np.full((1, 4, 5), value), label=7) for value in (10, 20, 30)]
    path = write_records(tmp_path / "db", records)
    (tmp_path / "list").write_text("00000002_r 4\n00000000_r 9\n")
    chosen = f"selective_list: '{tmp_path / 'list'}'"
    built = net(DATA % (path, chosen, "resize_size: 2"))
    blobs = built.run(0).outputs
    assert blobs["l"].tolist() == [4, 9, 4]
    assert blobs["d"].shape == (3, 1, 2, 2)
    assert blobs["d"][:, 0, 0, 0].tolist() == [30, 10, 30]
    assert built.run(1).outputs["l"].tolist() == [9, 4, 9]
    shuffled = net(DATA % (path, f"{chosen} shuffle: true", ""))
    seen = [label for index in range(8) for label in shuffled.run(index).outputs["l"].tolist()]
    assert {tuple(seen[i : i + 2]) for i in range(0, 24, 2)} == {(4, 9), (9, 4)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("00000009_r 4\n", "names the key '00000009_r', which no record has"),
        ("00000001_r\n", "line 1 is '00000001_r'; expected the key of a record and a label"),
        ("00000001_r cat\n", "expected the key of a record and a label"),
        ("\n", "names no records"),
    ],
)
def test_lists_refused(text: str, words: str, tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(noise(1, 3, 3)) for _ in range(3)])
    (tmp_path / "list").write_text(text)
    with pytest.raises((DataError, LayerError), match=words):
        net(DATA % (path, f"selective_list: '{tmp_path / 'list'}'", ""))


def test_resizing_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    path = write_records(tmp_path / "db", [datum(noise(3, 20, 31, seed)) for seed in range(5)])
    fields = {**STRETCH, "crop_size": 9}
    one, two = (
        [batch.data for batch in batches(path, range(4), workers=count, **fields)]
        for count in (1, 3)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
