"""ImageGtData, DetectionData and EvalData: images with objects from lists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image, resize_image
from caffecompat.data.shard import Shard
from caffecompat.data.sources.region_images import shuffled
from caffecompat.data.sources.region_lists import read_region_list
from caffecompat.errors import CaffeError, DataError, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.messages import message

pytest.importorskip("cv2")

Box = tuple[int, ...]
Entry = tuple[np.ndarray, Sequence[Box], Sequence[Box]]


def picture(number: int, height: int, width: int) -> np.ndarray:
    """Pixels that tell their image, row and column."""
    rows, columns = np.indices((height, width), np.uint8)
    return np.stack([np.full_like(rows, 50 * number + 1), rows + 1, columns + 1], 2).astype(
        np.uint8
    )


def listed(folder: Path, entries: Sequence[Entry], name: str = "list") -> str:
    """A list of pictures with objects and regions to ignore; its path."""
    text = []
    for number, (pixels, objects, regions) in enumerate(entries):
        (folder / f"{name}{number}.png").write_bytes(encode_image(pixels, "png"))
        text += [f"# {number}", f"{name}{number}.png", "3", *map(str, pixels.shape[:2])]
        text += [str(len(objects)), *(" ".join(map(str, box)) for box in objects)]
        text += [str(len(regions)), *(" ".join(map(str, box)) for box in regions)]
    (folder / name).write_text("\n".join(text) + "\n")
    return str(folder / name)


def source(kind: str, path: str, text: str, tops: int, **options: Any) -> Source:
    given = BuildOptions(**{"seed": 3, "workers": 1, **options})
    layer = catalogue.find(kind)(Context("TRAIN", "layer 'one'", given))
    field = {"ImageGtData": "image_gt_data", "DetectionData": "detection_data"}.get(
        kind, "eval_data"
    )
    own, _, transform = text.partition("|")
    definition = message(
        kind,
        f"{field}_param {{ source: '{path}' root_folder: '{Path(path).parent}/' {own} }} "
        f"transform_param {{ {transform} }}",
        tops,
    )
    assert isinstance(layer, Source)
    layer.setup(definition, ())
    return layer


def read(layer: Source, index: int = 0) -> list[np.ndarray]:
    found = layer.read(index)
    assert found is not None
    return [np.asarray(top) for top in found]


def rounded(value: float) -> int:
    return int(math.floor(abs(value) + 0.5) * math.copysign(1, value))


def overlap(a: Any, b: Any, more: int, mode: str = "union") -> float:
    """Of two boxes; ``more`` is 1 where the last pixel is in the box."""
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    apart = (x1 > x2 or y1 >= y2) if more else (x1 >= x2 or y1 >= y2)
    shared = 0.0 if apart else (x2 - x1 + more) * (y2 - y1 + more)
    first = (a[2] - a[0] + more) * (a[3] - a[1] + more)
    second = (b[2] - b[0] + more) * (b[3] - b[1] + more)
    return float(shared / (first if mode == "first" else first + second - shared))


def expected_maps(
    canvas: tuple[int, int],
    objects: list[tuple[int, bool, list[float]]],
    regions: Sequence[Box],
    anchors: list[tuple[int, int, int]],
    more: int,
    usable: Any = None,
) -> list[np.ndarray]:
    """The maps of an image that fills the canvas; anchors are (stride, height, width)."""
    maps, hits = [], [0] * len(objects)
    best: list[tuple[float, int]] = [(0.0, 0)] * len(objects)
    for number, (stride, height, width) in enumerate(anchors):
        rows, columns = rounded(canvas[0] / stride), rounded(canvas[1] / stride)
        found = np.zeros((6, rows, columns), np.float32)
        for i, j in np.ndindex(rows, columns):
            x, y = (j + 0.5) * stride, (i + 0.5) * stride
            anchor = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            covered = sum(overlap(anchor, r, more, "first") for r in regions) >= 0.4
            if (covered and not more) or (usable and not usable(anchor, width, height)):
                found[5, i, j] = 1
                continue
            shares = [overlap(box, anchor, more) for _, _, box in objects]
            for k, share in enumerate(shares):
                if share > best[k][0]:
                    best[k] = (share, number)
            largest = max(shares, default=0.0)
            found[5, i, j] = largest
            if largest > 0.5:
                k = shares.index(largest)
                hits[k] += 1
                found[:5, i, j] = target(*objects[k], more)
            elif covered:
                found[5, i, j] = 1
        maps.append(found)
    for k, (label, ignored, box) in enumerate(objects):
        share, number = best[k]
        if ignored or hits[k] or share < 0.2:
            continue
        values = target(label, ignored, box, more)
        i, j = (int(values[a] // anchors[number][0]) for a in (2, 1))
        if maps[number][0, i, j] == 0:
            maps[number][:5, i, j] = values
            if more:
                maps[number][5, i, j] = share
    return maps


def target(label: int, ignored: bool, box: list[float], more: int) -> list[float]:
    x1, y1, x2, y2 = box
    return [0 if ignored else label, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1 + more, y2 - y1 + more]


OBJECTS = [
    (2, 0, 3, 5, 18, 20),
    (1, 0, 20, 8, 30, 28),
    (3, 1, 8, 24, 22, 38),
    (4, 0, 30, 30, 36, 37),
    (1, 0, 1, 30, 4, 33),
]
REGIONS = [(0, 20, 12, 40), (33, 0, 40, 10)]
ANCHORS = [(4, 14, 14), (8, 24, 16)]
MAPS = (
    "downsample_rate: 4 field_h: 14 field_w: 14 downsample_rate: 8 field_h: 24 field_w: 16 "
    "output_gt_boxes: true"
)


def test_maps_of_ms_cnn(tmp_path: Path) -> None:
    pixels = picture(0, 40, 40)
    path = listed(tmp_path, [(pixels, OBJECTS, REGIONS)])
    layer = source("ImageGtData", path, f"batch_size: 1 min_gt_width: 5 {MAPS} scale: 0.5", 4)
    assert layer.shapes == [(1, 3, 40, 40), (1, 6, 10, 10), (1, 6, 5, 5), (1, 7, 1, 1)]
    data, *maps, rows = read(layer)
    assert np.array_equal(data[0], pixels.transpose(2, 0, 1).astype(np.float32) / 2)
    objects = [(o[0], bool(o[1]), list(map(float, o[2:]))) for o in OBJECTS]
    objects[4] = (1, True, objects[4][2])  # narrower than 5 pixels
    for found, wanted in zip(
        maps, expected_maps((40, 40), objects, REGIONS, ANCHORS, 0), strict=True
    ):
        np.testing.assert_allclose(found[0], wanted, rtol=1e-6)
        assert (wanted[0] > 0).any()
    expected = [[0, *box, label, ignored] for label, ignored, box in objects]
    assert rows.reshape(-1, 7).tolist() == expected


@pytest.mark.parametrize(
    "edge", ["", "anchor_ignore_margin_ratio: 0.4", "anchor_ignore_iou_thr: 0.8"]
)
def test_maps_of_cascade_rcnn(tmp_path: Path, edge: str) -> None:
    objects = [(o[0], o[1], 1 - o[1], *o[2:]) for o in OBJECTS]
    path = listed(tmp_path, [(picture(0, 40, 40), objects, REGIONS)])
    text = MAPS.replace("downsample_rate", "stride")
    layer = source("DetectionData", path, f"batch_size: 1 {text} {edge}| scale: 2 mean_value: 3", 4)
    data, *maps, rows = read(layer)
    assert np.array_equal(
        data[0], (picture(0, 40, 40).transpose(2, 0, 1).astype(np.float32) - 3) * 2
    )

    def usable(anchor: Any, width: int, height: int) -> bool:
        if "margin" in edge:
            x, y = 0.4 * width / 2, 0.4 * height / 2
            return bool(
                anchor[0] >= -x and anchor[1] >= -y and anchor[2] < 40 + x and anchor[3] < 40 + y
            )
        return not edge or overlap(anchor, (0, 0, 40, 40), 1, "first") >= 0.8

    plain = [(o[0], bool(o[1]), list(map(float, o[2:]))) for o in OBJECTS]
    wanted = expected_maps((40, 40), plain, REGIONS, ANCHORS, 1, usable)
    for found, right in zip(maps, wanted, strict=True):
        np.testing.assert_allclose(found[0], right, rtol=1e-5)
    assert rows.reshape(-1, 8)[:, 5:].tolist() == [[o[0], o[1], 1 - o[1]] for o in OBJECTS]


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


def test_orders() -> None:
    sizes = [(4, 8), (8, 4), (5, 5), (3, 9), (9, 3), (1, 2), (7, 7)]
    images: list[Any] = [type("One", (), {"height": h, "width": w}) for h, w in sizes]
    high = {1, 2, 4, 6}
    first = set()
    for times in range(12):
        order = shuffled(images, "random_aspect", 1, 5)(times).tolist()
        assert sorted(order) == list(range(7))
        first.add(order[0] in high)
        cut = 4 if order[0] in high else 3
        assert set(order[:cut]) in (high, {0, 3, 5})
        mixed = shuffled(images, "random_mix_aspect", 2, 5)(times).tolist()
        assert sorted(mixed) == list(range(7))
        kinds = [i in high for i in mixed]
        assert kinds[:4] in ([True, True, False, False], [False, False, True, True])
    assert first == {True, False}
    plain = [tuple(shuffled(images, "random", 1, 5)(times)) for times in range(5)]
    assert len(set(plain)) == 5


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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the list is empty"),
        ("x 0 a.png 3 2 2 0 0", "found 'x', expected '#'"),
        ("# 0 a.png 3 2 2 1 1 0 4 4 9", "it ends too early"),
        ("# 0 a.png 3 2 2 1 0 0 4 4 9 9 0", "the label 0, expected 1 or more"),
        ("# 0 a.png 3 2 2 1 1 0 9 4 4 9 0", "ends before it begins"),
        ("# 7 a.png 3 2 2 -1 0", "a number of boxes is -1"),
        ("# 0 a.png 3 2 2 99999999999 0", "expected a whole number"),
        ("# 0 a.png 3 2 2 0 1 1 1 2.5 2", "found '2.5'"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_region_list(str(path), False)


def test_claims_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("# 0 a.png 3 2 2 999999999 1 0 1 1 2 2")
    with pytest.raises(DataError, match="ends too early"):
        read_region_list(str(path), False)
    with pytest.raises(CaffeError, match="more than"):
        read_region_list(str(path), False, 10)


def test_wrong_settings_and_images(tmp_path: Path) -> None:
    path = listed(tmp_path, [(picture(0, 20, 20), [], [])])
    for kind, text, tops, sentence in (
        ("ImageGtData", "batch_size: 1", 2, "0 downsample_rate"),
        ("ImageGtData", "batch_size: 1 downsample_rate: 4 field_h: 8 field_w: 8", 3, "give 2"),
        ("ImageGtData", "downsample_rate: 4 field_h: 8 field_w: 8 coord_num: 3", 2, "only 4"),
        ("DetectionData", "batch_size: 1 shuffle: 'never'", 1, "expected random"),
        ("DetectionData", "resize_ratio: 1 short_size: 3 long_size: 4", 1, "give one of them"),
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
