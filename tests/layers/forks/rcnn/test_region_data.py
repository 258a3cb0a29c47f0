"""ImageGtData, DetectionData and EvalData: images with objects from lists."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import resize_image
from caffecompat.data.shard import Shard
from caffecompat.errors import CaffeError, LayerError
from tests.layers.forks.rcnn.region_sources import (
    Box,
    Entry,
    listed,
    picture,
    read,
    rounded,
    source,
)

pytest.importorskip("cv2")


def test_images_are_cut_around_an_object_or_centred(tmp_path: Path) -> None:
    large, small = picture(0, 60, 90), picture(1, 20, 24)
    entries: list[Entry] = [
        (large, [(1, 0, 40, 30, 49, 39)], []),
        (small, [(2, 0, 3, 4, 12, 14)], []),
    ]
    path = listed(tmp_path, entries)
    text = """batch_size: 2 crop_width: 30 crop_height: 32 downsample_rate: 4 field_h: 8 field_w: 8
        output_gt_boxes: true"""
    layer = source("ImageGtData", path, text, 3)
    places = set()
    for index in range(12):
        data, maps, rows = read(layer, index)
        cut, box = data[0].transpose(1, 2, 0), rows[0, 1:5, 0, 0]
        top, left = (int(v) - 1 for v in cut[0, 0, 1:])
        assert np.array_equal(cut, large[top : top + 32, left : left + 30])
        assert box.tolist() == [40 - left, 30 - top, 49 - left, 39 - top]
        # The middle of the object is at most 11 pixels beside the middle.
        assert abs(44.5 - left - 15) < 12
        assert abs(34.5 - top - 16) < 12
        placed, box = data[1].transpose(1, 2, 0), rows[1, 1:5, 0, 0]
        down, right = (int(v[0]) for v in np.nonzero(placed.any(2)))
        assert np.array_equal(placed[down : down + 20, right : right + 24], small)
        assert not placed[:down].any()
        assert not placed[down + 20 :].any()
        assert box.tolist() == [3 + right, 4 + down, 12 + right, 14 + down]
        beside = np.ones((8, 8), bool)
        first = [rounded(v / 4) for v in (down, right)]
        beside[first[0] : first[0] + 5, first[1] : first[1] + 6] = False
        assert (maps[1, 5][beside] == 1).all()
        assert (maps[1, 5][~beside] < 1).all()
        places.add((top, left, down, right))
    assert len(places) > 6


def bounds(image: np.ndarray) -> list[float]:
    """The edges of the white part of an image (3, H, W)."""
    rows, columns = np.nonzero(image[0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def square(height: int, width: int, box: Box) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


def test_objects_are_rescaled_in_half_octaves(tmp_path: Path) -> None:
    box = (60, 50, 84, 74)
    path = listed(tmp_path, [(square(140, 150, box), [(1, 0, *box)], [])])
    text = """batch_size: 1 crop_width: 120 crop_height: 120 downsample_rate: 8 field_h: 8
        field_w: 8 output_gt_boxes: true do_multiple_scale: true min_scale: 12 max_scale: 48
        min_whaspect: 0.5 max_whaspect: 2"""
    layer = source("ImageGtData", path, text, 3)
    sizes = []
    for index in range(60):
        data, _, rows = read(layer, index)
        found = rows[0, 1:5, 0, 0]
        np.testing.assert_allclose(bounds(data[0]), found, atol=2)
        sizes.append((found[2] - found[0], found[3] - found[1]))
    plain = [w for w, h in sizes if abs(w - h) < 0.01]
    steps = {round(math.log2(w / 24) * 2, 3) for w in plain}
    # The object has the third of five sizes, so the others are up to an octave away.
    assert steps <= {-2, -1, 0, 1, 2}
    assert len(steps) > 3
    assert len(plain) < len(sizes)
    assert all(min(w, h) >= 0.8 * 12 - 0.01 and max(w, h) <= 1.2 * 48 + 0.01 for w, h in sizes)


@pytest.mark.parametrize("relative", [False, True])
def test_objects_are_rescaled_by_a_logarithm(tmp_path: Path, relative: bool) -> None:
    box = (60, 50, 83, 73)
    image = square(140, 150, (60, 50, 84, 74))
    path = listed(tmp_path, [(image, [(1, 0, 0, *box)], [])])
    scales = (
        "low_scale_ratio: 0.5 high_scale_ratio: 2" if relative else "min_scale: 12 max_scale: 48"
    )
    text = f"""batch_size: 1 crop_width: 120 crop_height: 120 output_gt_boxes: true
        multiscale_prob: 0.75 {scales}"""
    layer = source("DetectionData", path, text + "| mirror: true", 2)
    factors = []
    for index in range(40):
        data, rows = read(layer, index)
        found = rows[0, 1:5, 0, 0]
        np.testing.assert_allclose(bounds(data[0]), found, atol=3)
        factors.append((found[2] - found[0]) / 23)
    assert 3 < sum(f == 1 for f in factors) < 20
    assert 0.49 < min(factors) < 0.7
    assert 1.5 < max(factors) < 2.01


def test_a_batch_has_the_direction_of_its_first_image(tmp_path: Path) -> None:
    entries: list[Entry] = [
        (picture(0, 40, 60), [], []),
        (picture(1, 64, 48), [], []),
        (picture(2, 40, 60), [], []),
    ]
    path = listed(tmp_path, entries)
    text = "batch_size: 2 short_size: 32 long_size: 64 output_gt_boxes: true"
    layer = source("DetectionData", path, text, 2)
    assert [read(layer, i)[0].shape for i in range(3)] == [
        (2, 3, 32, 64),
        (2, 3, 32, 64),
        (2, 3, 64, 32),
    ]
    rows = read(layer)[1]
    assert rows.shape == (1, 8, 1, 1)
    assert (rows == -1).all()
    layer = source("DetectionData", path, text + " template_ratio: 1 template_ratio: 2", 2)
    widths = {read(layer, i)[0].shape[2:] for i in range(0, 30, 3)}
    assert widths == {(32, 64), (64, 128)}
    # The wide image has 32 x 48 of the 32 x 64 pixels.
    first = read(source("DetectionData", path, text, 2))[0][0]
    assert np.count_nonzero(first[0].any(0)) == 48
    wanted = resize_image(picture(0, 40, 60), width=48, height=32)
    start = int(np.flatnonzero(first[0].any(0))[0])
    assert np.array_equal(
        first[:, :, start : start + 48], wanted.transpose(2, 0, 1).astype(np.float32)
    )


def test_eval_data(tmp_path: Path) -> None:
    entries: list[Entry] = [
        (picture(0, 40, 60), [(2, 0, 1, 6, 8, 30, 20), (1, 1, 0, 0, 0, 5, 5)], [(1, 1, 2, 2)]),
        (picture(1, 100, 50), [], []),
    ]
    path = listed(tmp_path, entries)
    text = "batch_size: 1 short_size: 60 long_size: 96 | mean_value: 1 mean_value: 2 mean_value: 3"
    layer = source("EvalData", path, text, 3)
    data, rows, sizes = read(layer)
    # 40 x 60 becomes 60 x 90, and 64 x 96 with sides of multiples of 32.
    wanted = resize_image(picture(0, 40, 60), width=96, height=64).astype(np.float32) - [1, 2, 3]
    np.testing.assert_allclose(data[0], wanted.transpose(2, 0, 1))
    assert sizes.reshape(-1).tolist() == [64, 96]
    np.testing.assert_allclose(
        rows.reshape(2, 8),
        np.array([[0, 9.6, 12.8, 48, 32, 2, 0, 1], [0, 0, 0, 8, 8, 1, 1, 0]]),
        rtol=1e-6,
    )
    data, rows, sizes = read(layer, 1)
    # 100 x 50 becomes 120 x 60, cut to 96 x 60, and 96 x 64.
    assert data.shape == (1, 3, 96, 64)
    assert (rows == -1).all()
    fixed = source("EvalData", path, "batch_size: 2 resize_width: 70 resize_height: 30", 2)
    data, rows = read(fixed)
    assert data.shape == (2, 3, 32, 64)
    assert rows[:, 0, 0, 0].tolist() == [0, 0]


def test_samples_are_pure_functions_of_seed_and_number(tmp_path: Path) -> None:
    entries: list[Entry] = [
        (picture(k, 30 + k, 40), [(1, 0, 0, 5, 5, 20, 20)], []) for k in range(4)
    ]
    path = listed(tmp_path, entries)
    text = """batch_size: 4 crop_width: 20 crop_height: 20 output_gt_boxes: true shuffle: 'random'
        min_scale: 8 max_scale: 30 stride: 4 field_h: 8 field_w: 8 | mirror: true"""
    whole = source("DetectionData", path, text, 3)
    data = read(whole, 5)
    again = read(source("DetectionData", path, text, 3, workers=2), 5)
    assert all(np.array_equal(a, b) for a, b in zip(data, again, strict=True))
    other = read(source("DetectionData", path, text, 3, seed=4), 5)
    assert not np.array_equal(data[0], other[0])
    parts = [read(source("DetectionData", path, text, 3, shard=Shard(r, 2)), 5) for r in range(2)]
    assert np.array_equal(np.concatenate([p[0] for p in parts]), data[0])
    assert np.array_equal(np.concatenate([p[1] for p in parts]), data[1])


def test_images_with_objects_occur_several_times(tmp_path: Path) -> None:
    entries: list[Entry] = [
        (picture(0, 20, 20), [(1, 0, 2, 2, 9, 9)], []),
        (picture(1, 20, 20), [(1, 1, 2, 2, 9, 9)], []),
        (picture(2, 20, 20), [], []),
    ]
    path = listed(tmp_path, entries)
    text = "batch_size: 5 fg_img_multiple: 3 downsample_rate: 4 field_h: 8 field_w: 8"
    data, _ = read(source("ImageGtData", path, text, 2))
    assert data[:, 0, 0, 0].tolist() == [1, 1, 1, 51, 101]


def test_wrong_settings_and_images(tmp_path: Path) -> None:
    path = listed(tmp_path, [(picture(0, 20, 20), [], [])])
    for kind, text, tops, sentence in (
        ("ImageGtData", "batch_size: 1", 2, "0 downsample_rate"),
        ("ImageGtData", "batch_size: 1 downsample_rate: 4 field_h: 8 field_w: 8", 3, "give 2"),
        ("ImageGtData", "downsample_rate: 4 field_h: 8 field_w: 8 coord_num: 3", 2, "only 4"),
        ("DetectionData", "batch_size: 1 shuffle: 'never'", 1, "expected random"),
        (
            "DetectionData",
            "resize_ratio: 1 short_size: 3 long_size: 4",
            1,
            "give only resize_ratio",
        ),
        ("DetectionData", "crop_width: 3", 1, "give both"),
        ("DetectionData", "min_scale: 4 max_scale: 3", 1, "the smaller one first"),
        ("EvalData", "batch_size: 2", 2, "need a batch of 1"),
        ("EvalData", "batch_size: 1 | mean_file: 'm'", 2, "no mean_file"),
        ("EvalData", "batch_size: 1 | mean_value: 1 mean_value: 2", 2, "2 mean_value"),
    ):
        with pytest.raises(LayerError, match=sentence):
            source(kind, path, text, tops)
    text = (tmp_path / "list").read_text().replace("\n20\n20\n", "\n20\n30\n")
    (tmp_path / "list").write_text(text)
    with pytest.raises(CaffeError, match="but the list says 20x30"):
        source("EvalData", path, "batch_size: 1", 2)
    with pytest.raises(CaffeError, match="nowhere"):
        source("EvalData", str(tmp_path / "nowhere"), "batch_size: 1", 2)
