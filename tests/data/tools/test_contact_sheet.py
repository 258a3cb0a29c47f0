"""Pictures of many images."""

from __future__ import annotations

import cv2
import numpy as np

from caffecompat.data.tools.contact_sheet import contact_sheet, value_range


def picture(number: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def test_a_sheet_of_floats_is_spread_from_black_to_white() -> None:
    images = [np.full((1, 4, 6), -3.0, np.float32), np.full((1, 4, 6), 5.0, np.float32)]
    images[0][0, 0, 0] = np.nan
    assert value_range(images) == (-3, 5)
    data = contact_sheet(images, ["1", "2"], columns=2, cell=24)
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    assert sheet[10, 10].tolist() == [0, 0, 0]
    assert sheet[10, 40].tolist() == [255, 255, 255]


def test_large_images_are_made_to_fit() -> None:
    images = [picture(1, (3, 90, 31)), picture(2, (3, 7, 300))]
    data = contact_sheet(images, ["a", "b"], columns=5, cell=32)
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    assert sheet.shape == (32 + 16 + 4 + 4, 2 * 36 + 4, 3)
