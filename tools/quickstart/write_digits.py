"""Write scikit-learn's handwritten digits as PNG images, and lists for training and test.

    python tools/quickstart/write_digits.py quickstart-run/images

The lists are what ``caffecompat convert-imageset`` takes: a file name, one space, a label.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

SIDE = 32
# Every fifth of the 1797 images is held out for the test.
HELD_OUT = 5


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    digits = load_digits()
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # Intensities go from 0 to 16 on a grid of 8x8.
        pixels = np.rint(image * (255 / 16)).astype(np.uint8)
        pixels = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        name = f"{number:04d}.png"
        if not cv2.imwrite(str(folder / name), pixels):
            raise SystemExit(f"{folder / name}: cannot be written")
        lists["train" if number % HELD_OUT else "test"].append(f"{name} {label}")
    for part, lines in lists.items():
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{len(lines)} images in {folder}/{part}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main())
