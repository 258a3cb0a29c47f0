"""The picture of an image beside its classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffecompat.evaluate.classification.picture import draw_classes


def test_a_row_of_pixels(tmp_path: Path) -> None:
    """At the height of the picture it would be twenty million pixels wide."""
    image, picture = tmp_path / "row.png", tmp_path / "picture.png"
    cv2.imwrite(str(image), np.zeros((1, 65_500, 3), np.uint8))
    draw_classes(str(image), [("n" * 100_000, 0.5), ("\x1b]0;x\x07", 0.25)], str(picture))
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape == (300, 2820, 3)
