"""Small localisation nets, and box lists for small images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.export.model import CaffeModel
from tests.evaluate.small import CLASSES, NET, PREPROCESSING, small_model, write_images

PREPARATION = ImagePreparation(PREPROCESSING)
SOFTMAX = NET[NET.index('layer { name: "prob"') :]


def box_model(per_class: bool = True, seed: int = 7) -> CaffeModel:
    """A net of the size, stride and classes of tests/evaluate/small.py."""
    outputs = 4 * CLASSES if per_class else 4
    text = NET.replace(SOFTMAX, "").replace("num_output: 6", f"num_output: {outputs}")
    # Boxes around the middle, large enough to overlap.
    return small_model(text.replace("std: 0.7 }", "std: 0.2 }" + BIAS), seed)


BIAS = ' bias_filler { type: "constant" value: 0.5 }'


def write_boxes(folder: Path, count: int = 7, seed: int = 2) -> str:
    """The images of tests/evaluate/small.py with one or two boxes each; returns the list's path."""
    write_images(folder, count)
    random = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        pixels = cv2.imread(str(folder / f"{number}.png"))
        assert pixels is not None
        height, width = pixels.shape[:2]
        words = [f"{number}.png", str(number % CLASSES)]
        for _ in range(1 + number % 2):
            left, right = sorted(random.choice(width, 2, replace=False))
            top, bottom = sorted(random.choice(height, 2, replace=False))
            words += [str(left), str(top), str(right), str(bottom)]
        lines.append(" ".join(words))
    path = folder / "boxes.txt"
    path.write_text("\n".join(lines) + "\n")
    return str(path)
