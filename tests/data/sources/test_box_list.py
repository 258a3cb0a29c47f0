"""Box lists, and the targets of BoxData layers: the boxes stay on the objects that they mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.data.shard import Shard
from caffecompat.data.sources.objects.box_list import (
    BoxEntry,
    line_of,
    read_box_list,
    relative_boxes,
)
from caffecompat.data.transforms.deferred_crops import DeferredCrops
from caffecompat.errors import CaffeError, DataError, LayerError
from caffecompat.net import Net
from caffecompat.proto.text.parser import parse_text
from tests.sentences import assert_one_sentence

CROP = 24


@pytest.fixture
def rectangles(tmp_path: Path) -> Path:
    """Black images of several sizes, each with one white rectangle; class = number of the image."""
    random = np.random.default_rng(5)
    lines = []
    for number in range(6):
        height, width = (int(side) for side in random.integers(30, 50, 2))
        x, y = int(random.integers(2, width - 16)), int(random.integers(2, height - 16))
        across, down = (int(side) for side in random.integers(8, 14, 2))
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y : y + down, x : x + across] = 255
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
        lines.append(f"{number}.png {number} {x} {y} {x + across - 1} {y + down - 1}")
    path = tmp_path / "boxes.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def box_net(
    path: Path, transform: str, settings: str = "", batch: int = 6, tops: int = 2, **options: Any
) -> Net:
    names = "".join(f"top: '{name}' " for name in ("data", "box", "mask")[:tops])
    text = (
        f"layer {{ name: 'd' type: 'BoxData' {names} image_data_param {{ source: '{path}' "
        f"root_folder: '{path.parent}/' batch_size: {batch} shuffle: true }} "
        f"transform_param {{ {transform} }} box_data_param {{ {settings} }} }}"
    )
    return Net(parse_text(text, "NetParameter")[0], phase="TRAIN", seed=4, **options)


def seen_edges(crop: np.ndarray) -> np.ndarray | None:
    """Left, top, right and bottom of the white part of a crop; None where there is none."""
    white = crop.mean(0) > 127
    if not white.any():
        return None
    columns, rows = np.flatnonzero(white.any(0)), np.flatnonzero(white.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize(
    ("transform", "tolerance"),
    [
        ("", 1e-4),
        ("mirror: true", 1e-4),
        (f"crop_size: {CROP} mirror: true", 1e-4),
        (
            f"crop_size: {CROP} mirror: true img_rand_resize_lower: 26 img_rand_resize_upper: 52",
            1.01,
        ),
    ],
)
def test_targets_follow_crop_flip_and_scale(
    rectangles: Path, transform: str, tolerance: float
) -> None:
    net = box_net(rectangles, transform, batch=1)
    compared = 0
    for index in range(30):
        outputs = net.run(index).outputs
        crop, target = np.asarray(outputs["data"])[0], np.asarray(outputs["box"])[0]
        size = np.array([crop.shape[2], crop.shape[1]])
        centre, sides = target[:2] * size, target[2:] * size
        edges = np.concatenate([centre - sides / 2, centre + sides / 2])
        clipped = np.clip(edges, 0, [*size, *size])
        found = seen_edges(crop)
        if found is None:
            assert (clipped[2:] - clipped[:2]).min() <= tolerance
        else:
            np.testing.assert_allclose(clipped, found, atol=tolerance)
            compared += 1
    assert compared > 15


def test_a_net_on_a_gpu_gets_the_same_blobs(rectangles: Path) -> None:
    transform = f"crop_size: {CROP} mirror: true mean_value: 9 scale: 0.5"
    plain = box_net(rectangles, transform, "classes: 7", tops=3).layers[0].source
    other = box_net(rectangles, transform, "classes: 7", tops=3).layers[0].source
    assert plain is not None
    assert other is not None
    given, expected = other.read_for_gpu(1), plain.read(1)
    assert given is not None
    assert expected is not None
    crops, *targets = given
    assert isinstance(crops, DeferredCrops)
    for found, blob in zip([crops.floats(), *targets], expected, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(blob))


def test_per_class_targets_are_those_of_the_class(rectangles: Path) -> None:
    transform = f"crop_size: {CROP} mirror: true"
    shared = box_net(rectangles, transform).run(3).outputs["box"]
    outputs = box_net(rectangles, transform, "classes: 7", tops=3).run(3).outputs
    targets, mask = np.asarray(outputs["box"]), np.asarray(outputs["mask"])
    assert targets.shape == mask.shape == (6, 28)
    assert (mask.sum(1) == 4).all()
    own = [int(np.flatnonzero(row)[0]) // 4 for row in mask]
    assert sorted(own) == [0, 1, 2, 3, 4, 5]
    for row, label in enumerate(own):
        np.testing.assert_array_equal(targets[row, 4 * label : 4 * label + 4], shared[row])
    assert (targets[mask == 0] == 0).all()


def test_crops_that_show_too_little_are_masked(rectangles: Path) -> None:
    settings = "min_visible: 0.6"
    net = box_net(rectangles, f"crop_size: {CROP}", settings, tops=3)
    masks = []
    for index in range(5):
        outputs = net.run(index).outputs
        plain = box_net(rectangles, f"crop_size: {CROP}").run(index).outputs["box"]
        for target, mask, box in zip(outputs["box"], outputs["mask"], plain, strict=True):
            left, top = box[:2] - box[2:] / 2
            right, bottom = box[:2] + box[2:] / 2
            width, height = min(right, 1) - max(left, 0), min(bottom, 1) - max(top, 0)
            visible = max(float(width), 0) * max(float(height), 0) / float(box[2] * box[3])
            assert (mask == float(visible >= 0.6)).all()
            assert (target == box * mask).all()
            masks.append(float(mask[0]))
    assert 0 < sum(masks) < len(masks)


def test_each_box_of_an_image_is_drawn(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((10, 20, 3), np.uint8))
    path = tmp_path / "boxes.txt"
    path.write_text("a.png 0 0 0 9 9 10 0 19 9 5 5 5 5\n")
    net = box_net(path, "", batch=1)
    found = [tuple(net.run(i).outputs["box"][0].tolist()) for i in range(30)]
    expected = {(0.25, 0.5, 0.5, 1.0), (0.75, 0.5, 0.5, 1.0), (0.275, 0.55, 0.05, 0.1)}
    assert {tuple(round(value, 4) for value in box) for box in found} == expected
    again = box_net(path, "", batch=1)
    assert [tuple(again.run(i).outputs["box"][0].tolist()) for i in range(30)] == found


def test_pixels_and_fractions() -> None:
    entry = BoxEntry(b"x", 0, np.array([[0, 0, 19, 9], [5, 2, 5, 2], [10, 0, 20, 10]], np.int32))
    np.testing.assert_allclose(
        relative_boxes(entry, 10, 20),
        [[0.5, 0.5, 1, 1], [0.275, 0.25, 0.05, 0.1], [0.75, 0.5, 0.5, 1]],
    )
    with pytest.raises(DataError, match="the image is 19 wide and 10 high") as caught:
        relative_boxes(entry, 10, 19)
    assert_one_sentence(str(caught.value))


def test_lines_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_bytes(b"a/b.jpg 3 1 2 3 4\nc.jpg\t0 1 1 1 1  2 2 9 9\r\n")
    found = read_box_list(str(path))
    assert len(found) == 2
    first, second = found[0], found[1]
    assert list(found.names()) == [(b"a/b.jpg", 3), (b"c.jpg", 0)]
    assert (first.name, first.label, first.corners.tolist()) == (b"a/b.jpg", 3, [[1, 2, 3, 4]])
    assert second.corners.tolist() == [[1, 1, 1, 1], [2, 2, 9, 9]]
    assert line_of(second) == b"c.jpg 0 1 1 1 1 2 2 9 9"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the list is empty"),
        ("a.jpg 1\n", "line 1 has 2 words, expected name label xmin ymin xmax ymax"),
        ("a.jpg 1 1 1 2 2\n\n", "line 2 has 0 words"),
        ("a.jpg 1 1 1 2 2 3\n", "line 1 has 7 words"),
        ("my cat.jpg 1 1 1 2 2 4 4 5\n", "line 1: 'cat.jpg' is not a whole number"),
        ("a.jpg 1 1 1 2.5 2\n", "'2.5' is not a whole number"),
        ("a.jpg -1 1 1 2 2\n", "'-1' is not a whole number"),
        (f"a.jpg 1 1 1 2 {'9' * 5000}\n", "is not a whole number"),
        ("a.jpg 1 5 1 2 2\n", "a box ends before it begins"),
    ],
)
def test_bad_lists(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_box_list(str(path))
    assert sentence in str(caught.value)
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("transform", "settings", "tops", "sentence"),
    [
        ("", "classes: 0", 3, "classes is 0, expected 1 or more"),
        ("", "classes: 5", 3, "line 6 has the label 5, but there are 5 classes, 0 to 4"),
        ("", "classes: 7", 2, "so the layer needs a third top, the mask"),
        ("", "min_visible: 0.5", 2, "so the layer needs a third top, the mask"),
        ("", "min_visible: 50", 3, "min_visible is 50, expected 0 to 1"),
    ],
)
def test_bad_settings(
    rectangles: Path, transform: str, settings: str, tops: int, sentence: str
) -> None:
    with pytest.raises((LayerError, DataError)) as caught:
        box_net(rectangles, transform, settings, tops=tops)
    assert sentence in str(caught.value)


def test_settings_that_move_pixels_but_not_boxes_are_refused(rectangles: Path) -> None:
    sizes = "new_height: 9 new_width: 9"
    text = (
        "layer { name: 'd' type: 'BoxData' top: 'data' top: 'box' image_data_param { "
        f"source: '{rectangles}' root_folder: '{rectangles.parent}/' {sizes} }}  }}"
    )
    words = (
        "new_height and new_width cannot be used with boxes; remove them "
        "(img_rand_resize_lower and _upper of transform_param rescale images and boxes)"
    )
    with pytest.raises(CaffeError) as caught:
        Net(parse_text(text, "NetParameter")[0])
    assert words in str(caught.value)
    lengths = (
        "transform_param { img_rand_resize_lower: 30 img_rand_resize_upper: 30 crop_size: 24 }"
    )
    removed = text.replace(sizes, "")
    for good in (removed, removed.replace("  }", f" {lengths} }}")):
        net = Net(parse_text(good, "NetParameter")[0])
        assert net.forward()["box"].shape == (1, 4)
        net.close()


def test_an_image_of_another_size_is_named(rectangles: Path) -> None:
    cv2.imwrite(str(rectangles.parent / "3.png"), np.zeros((9, 9, 3), np.uint8))
    net = box_net(rectangles, "img_rand_resize_lower: 30 img_rand_resize_upper: 30 crop_size: 24")
    with pytest.raises(DataError, match=r"line 4 \(image .*3\.png'\): a box reaches to pixel"):
        net.run(0)


def test_shapes_without_files(tmp_path: Path) -> None:
    path = tmp_path / "missing.txt"
    net = box_net(path, f"crop_size: {CROP}", "classes: 3", tops=3, shapes_only=True)
    shapes = {name: tuple(net.blobs[name].shape) for name in ("data", "box", "mask")}
    assert shapes == {"data": (6, 3, 24, 24), "box": (6, 12), "mask": (6, 12)}
    with pytest.raises(CaffeError, match=r"there is no list of boxes.*caffecompat convert-boxes"):
        box_net(path, f"crop_size: {CROP}")


def test_ranks_read_their_rows_of_the_same_batches(rectangles: Path) -> None:
    transform = f"crop_size: {CROP} mirror: true"
    whole = box_net(rectangles, transform).run(2).outputs
    parts = [
        box_net(rectangles, transform, shard=Shard(rank, 2)).run(2).outputs for rank in range(2)
    ]
    for name in ("data", "box"):
        joined = np.concatenate([np.asarray(part[name]) for part in parts])
        np.testing.assert_array_equal(joined, np.asarray(whole[name]))
