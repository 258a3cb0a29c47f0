"""The values that a net takes for an image, with a mean image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.errors import DataError
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.protocols.center import Center
from caffecompat.weights import write_mean

DATA_LAYER = """
layer { name: "data" type: "ImageData" top: "data" top: "label"
        transform_param { crop_size: 7 scale: 0.5 mean_file: "mean.binaryproto" }
        image_data_param { source: "list.txt" batch_size: 1 } }
"""


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mean_of(height: int, width: int, channels: int = 3) -> np.ndarray:
    random = np.random.default_rng(7)
    return random.random((channels, height, width), dtype=np.float32) * 255


def test_a_crop_has_the_values_of_a_data_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images that have the size of the mean."""
    monkeypatch.chdir(tmp_path)
    image, mean = image_of(10, 12), mean_of(10, 12)
    cv2.imwrite("image.png", image)
    Path("list.txt").write_text("image.png 0\n")
    write_mean(mean, "mean.binaryproto")
    Path("net.prototxt").write_text(DATA_LAYER)
    net = Net("net.prototxt")
    expected = net.forward(end="data")["data"][0]
    net.close()
    preparation = ImagePreparation(Preprocessing(scale=0.5), mean_image=mean)
    (crop,) = Center().views(preparation.at_scale(image, 10), (7, 7))
    np.testing.assert_array_equal(crop, expected)


def test_the_mean_is_stretched_to_the_image() -> None:
    """A mean that grows evenly from edge to edge does so in each size, but for the borders."""
    mean = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None], (3, 8, 6)).copy()
    preparation = ImagePreparation(Preprocessing(), mean_image=mean)
    values = preparation.values(np.zeros((16, 9, 3), np.uint8))
    rows = (np.arange(16) + 0.5) / 2 - 0.5
    expected = np.broadcast_to(rows[1:-1, None], (3, 14, 9))
    np.testing.assert_allclose(-values[:, 1:-1], expected, atol=1e-5)


def test_gray_and_rgb() -> None:
    mean = mean_of(5, 6, 1)
    gray = image_of(5, 6)[:, :, 0]
    preparation = ImagePreparation(Preprocessing("gray"), mean_image=mean)
    np.testing.assert_array_equal(preparation.values(gray), gray.astype(np.float32) - mean)
    assert preparation.values(image_of(9, 4)[:, :, 0]).shape == (1, 9, 4)
    # One channel serves all of a colour image; channels are in the order of the net.
    mean, image = mean_of(5, 6), image_of(5, 6)
    rgb = ImagePreparation(Preprocessing("RGB"), mean_image=mean)
    expected = image.transpose(2, 0, 1)[::-1].astype(np.float32) - mean
    np.testing.assert_array_equal(rgb.values(image), expected)
    one = ImagePreparation(Preprocessing(), mean_image=mean[:1])
    np.testing.assert_array_equal(
        one.values(image), image.transpose(2, 0, 1).astype(np.float32) - mean[:1]
    )


def test_a_mean_of_other_channels() -> None:
    preparation = ImagePreparation(Preprocessing(), mean_image=mean_of(5, 6, 2))
    with pytest.raises(DataError, match="the mean has 2 channels, but the image has 3 channels"):
        preparation.values(image_of(5, 6))
    preparation = ImagePreparation(Preprocessing(mean=(1, 2, 3)))
    with pytest.raises(DataError, match="the mean has 3 numbers, but the image has 1 channels"):
        preparation.values(image_of(5, 6)[:, :, 0])


def test_the_settings_tell_means_apart() -> None:
    """An evaluation that was interrupted goes on only with the same mean."""
    first, second = (mean_of(5, width) for width in (6, 7))
    plain, one, two = (
        ImagePreparation(Preprocessing(), mean_image=mean).as_json()
        for mean in (None, first, second)
    )
    assert plain != one != two
    assert one == ImagePreparation(Preprocessing(), mean_image=first.copy()).as_json()
