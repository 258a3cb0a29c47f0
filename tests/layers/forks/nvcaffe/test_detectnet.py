"""DetectNetTransformation against loops over cells, and images whose boxes can be seen."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from caffecompat.layers._counter_rng import Noise
from tests.layers.forks.nvcaffe.detectnet import GRID, NOTHING, labels, noise, settings
from tests.layers.messages import made, run
from tests.layers.single import call

BOXES: list[Any] = [[(3, 4, 13, 9, 1), (10, 6, 8.5, 12, 3), (1, 1, 4, 4, 2)], [(-5, 15, 12, 20, 1)]]


def transformed(text: str, images: Tensor, boxes: list[Any], phase: str = "TRAIN") -> list[Tensor]:
    return run("DetectNetTransformation", text, images, labels(boxes), tops=2, phase=phase)


def grid_by_cells(own: list[Any], mapping: dict[int, int], options: dict[str, Any]) -> np.ndarray:
    """The grid of an image of 32x24, cell by cell."""
    grid = np.zeros((8 + max(mapping.values()) + 1, 6, 8))
    for x, y, width, height, kind in own:
        right, below = x + width, y + height
        if options["crop"]:
            x, y, right, below = max(x, 0), max(y, 0), min(right, 32), min(below, 24)
        width, height = right - x, below - y
        if kind not in mapping or width <= 0 or height <= 0:
            continue
        sides = [
            min(side, max(options["least"], side / 2))
            if options["least"]
            else min(options["most"], side / 2)
            for side in (width, height)
        ]
        left, top = x + width / 2 - sides[0] / 2, y + height / 2 - sides[1] / 2
        for row in range(6):
            for column in range(8):
                across = min(left + sides[0], 4 * column + 4) - max(left, 4 * column)
                down = min(top + sides[1], 4 * row + 4) - max(top, 4 * row)
                if across <= 0 or down <= 0:
                    continue
                norm = 16 / (sides[0] * sides[1])
                at = 4 * column, 4 * row
                grid[8:, row, column] = 0
                grid[8 + mapping[kind], row, column] = 1
                grid[:8, row, column] = [
                    *(1, x - at[0], y - at[1], right - at[0], below - at[1]),
                    *(1 / width, 1 / height, norm if options["norm"] else max(norm, 1)),
                ]
    return grid


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("gridbox_type: GRIDBOX_MIN min_cvg_len: 5", {"least": 5, "most": 0, "crop": True}),
        ("gridbox_type: GRIDBOX_MIN min_cvg_len: 30", {"least": 30, "most": 0, "crop": True}),
        ("max_cvg_len: 5 crop_bboxes: false", {"least": 0, "most": 5, "crop": False}),
    ],
)
def test_grid(text: str, options: dict[str, Any], norm: bool) -> None:
    classes = "object_class { src: 1 dst: 1 } object_class { src: 3 dst: 0 }"
    whole = settings(f"{GRID} {text} obj_norm: {str(norm).lower()} {classes}")
    grids = transformed(whole, noise(2, 24, 32), BOXES)[1].numpy()
    assert grids.shape == (2, 10, 6, 8)
    for image, own in enumerate(BOXES):
        wanted = grid_by_cells(own, {1: 1, 3: 0}, {**options, "norm": norm})
        np.testing.assert_allclose(grids[image], wanted, rtol=1e-5, atol=1e-5)


def test_only_class_1_without_object_class() -> None:
    grids = transformed(settings(), noise(2, 24, 32), BOXES)[1]
    assert grids.shape == (2, 9, 6, 8)
    wanted = grid_by_cells(BOXES[0], {1: 0}, {"least": 0, "most": 50, "crop": True, "norm": False})
    np.testing.assert_allclose(grids[0].numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mean", ["mean_value: 100", "mean_value: 1 mean_value: 2 mean_value: 3"])
def test_images_in_test_are_resized(mean: str) -> None:
    images = noise(1, 30, 50)
    top, grid = transformed(settings(transform=mean), images, [BOXES[0]], phase="TEST")
    values = np.array([float(word) for word in mean.split() if word.isdigit()])
    less = (images[0].permute(1, 2, 0).numpy() - values) / 255
    expected = cv2.resize(less.astype(np.float32), (32, 24), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(top[0].permute(1, 2, 0).numpy(), expected * 255, atol=1e-3)
    scaled = [(x * 0.64, y * 0.8, w * 0.64, h * 0.8, kind) for x, y, w, h, kind in BOXES[0]]
    wanted = grid_by_cells(scaled, {1: 0}, {"least": 0, "most": 50, "crop": True, "norm": False})
    np.testing.assert_allclose(grid[0].numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_nothing_changes_without_augmentation() -> None:
    images = noise(2, 24, 32)
    np.testing.assert_allclose(transformed(settings(), images, BOXES)[0], images, atol=1e-3)
    smaller = noise(1, 20, 40)
    top = transformed(settings(), smaller, BOXES[:1])[0]
    np.testing.assert_allclose(top[0, :, 2:22], smaller[0, :, :, 4:36], atol=1e-3)
    assert (top[0, :, :2] == 0).all()
    assert (top[0, :, 22:] == 0).all()


def test_flips() -> None:
    images = noise(1, 24, 32)
    text = settings(more=NOTHING.replace("flip_prob: 0", "flip_prob: 1"))
    top, grid = transformed(text, images, [[(3, 4, 13, 9, 1)]])
    np.testing.assert_allclose(top, images.flip(3), atol=1e-3)
    options = {"least": 0, "most": 50, "crop": True, "norm": False}
    wanted = grid_by_cells([(32 - 3 - 13 - 1, 4, 13, 9, 1)], {1: 0}, options)
    np.testing.assert_allclose(grid[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "more",
    [
        "rotation_prob: 1 max_rotate_degree: 30",
        "scale_prob: 1 scale_min: 0.6 scale_max: 1.4",
        "crop_prob: 1 shift_x: 8 shift_y: 6",
        "flip_prob: 1 rotation_prob: 1 max_rotate_degree: 90 scale_prob: 1 scale_min: 0.8 "
        "scale_max: 1.3 crop_prob: 1 shift_x: 4",
    ],
)
def test_boxes_stay_on_their_objects(more: str) -> None:
    names = [word for word in more.split() if word.endswith("prob:")]
    kept = [f"{word} 0" for word in NOTHING.split()[::2] if word not in names]
    grid = "stride: 4 image_size_x: 120 image_size_y: 120 crop_bboxes: false"
    text = settings(grid, f"{' '.join(kept)} {more}")
    images = torch.zeros(12, 3, 100, 110)
    images[:, :, 40:60, 50:70] = 200  # turns change its outline, but not its middle
    top, grids = transformed(text, images, [[(50, 40, 20, 20, 1)]] * 12)
    places = set()
    for image, cells in zip(top.numpy(), grids.numpy(), strict=True):
        rows, columns = np.nonzero(image[0] > 100)
        row, column = np.argwhere(cells[0] == 1)[0]
        box = cells[1:5, row, column] + [4 * column, 4 * row, 4 * column, 4 * row]
        middle = [(box[0] + box[2]) / 2 - 0.5, (box[1] + box[3]) / 2 - 0.5]
        np.testing.assert_allclose(middle, [columns.mean(), rows.mean()], atol=1.6)
        places.add(tuple(np.round(middle, 1)))
    assert len(places) > 4


def test_colours() -> None:
    images = noise(6, 24, 32)
    grey = NOTHING.replace("desaturation_prob: 0", "desaturation_prob: 1 desaturation_max: 1")
    top = transformed(settings(more=grey), images, [[]] * 6)[0]
    assert (top >= images - 1e-2).all()
    np.testing.assert_allclose(top.amax(1), images.amax(1), atol=1e-2)
    turned = NOTHING.replace("hue_rotation_prob: 0", "hue_rotation_prob: 1 hue_rotation: 60")
    top = transformed(settings(more=turned), images, [[]] * 6)[0]
    np.testing.assert_allclose(top.amax(1), images.amax(1), atol=1e-2)
    np.testing.assert_allclose(top.amin(1), images.amin(1), atol=1e-2)
    assert (top - images).abs().mean() > 5


def test_choices_belong_to_seed_and_sample() -> None:
    images, boxes = noise(4, 24, 32), labels([BOXES[0]] * 4)
    text = settings(more="crop_prob: 1 shift_x: 9 shift_y: 9")

    def top(position: int, rows: slice) -> Tensor:
        layer = made("DetectNetTransformation", text, images[rows].shape, boxes[rows].shape, tops=2)
        layer.noise = Noise(7, "one", torch.tensor(position))
        return call(layer, [images[rows], boxes[rows]], [])[0]

    whole = top(0, slice(0, 4))
    assert torch.equal(whole, top(0, slice(0, 4)))
    assert torch.equal(whole[2:], top(1, slice(2, 4)))
    assert not torch.equal(whole, top(1, slice(0, 4)))


def test_refused() -> None:
    images = noise(1, 24, 32)
    wrong = labels([[]])
    wrong[0, 0, 0, 0] = 9
    with pytest.raises(LayerError, match="there are 9 boxes of 16 numbers; expected 0 to 4"):
        run("DetectNetTransformation", settings(), images, wrong, tops=2)
    with pytest.raises(LayerError, match="expected images Nx3xHxW"):
        run("DetectNetTransformation", settings(), images[:, :2], labels([[]]), tops=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (settings("stride: 0"), "must be positive"),
        (settings(transform="mean_value: 1 mean_value: 2"), "2 mean_value; give one or three"),
        (settings(more="noise_param { }"), "noise_param is not supported"),
    ],
)
def test_settings_refused(text: str, words: str) -> None:
    with pytest.raises(LayerError, match=words):
        made("DetectNetTransformation", text, (1, 3, 4, 4), (1, 1, 2, 16), tops=2)
