"""Show that several weight files give one net the same outputs, on the held-out digits.

    python tools/quickstart/compare_models.py digits.caffemodel digits.pt back.caffemodel

The first file is what the others are compared with; the exit code is 1 where one differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

import caffecompat

IMAGES = Path("quickstart-run/images")
DEPLOY = "prototxt/quickstart_deploy.prototxt"
MARGIN, CROP, MEAN, SCALE = 2, 28, 80, 1 / 128  # as in the TEST phase of the training net


def read_batch(names: list[str]) -> np.ndarray:
    """Images as the net takes them: float32, N x 1 x 28 x 28."""
    window = slice(MARGIN, MARGIN + CROP)
    images = [cv2.imread(str(IMAGES / name), cv2.IMREAD_GRAYSCALE) for name in names]
    pixels = np.stack([image[window, window] for image in images if image is not None])
    return ((pixels[:, None] - np.float32(MEAN)) * np.float32(SCALE)).astype(np.float32)


def main() -> int:
    entries = [line.split() for line in (IMAGES / "test.txt").read_text("utf-8").splitlines()]
    batch = read_batch([name for name, _ in entries])
    labels = np.array([int(label) for _, label in entries])
    expected = None
    same = True
    for path in sys.argv[1:]:
        net = caffecompat.Net(DEPLOY, weights=path, phase="test")
        posteriors = np.asarray(net.forward(data=batch)["prob"])
        expected = posteriors if expected is None else expected
        right = np.mean(posteriors.argmax(axis=1) == labels)
        difference = np.abs(posteriors - expected).max()
        same = same and difference == 0
        print(f"{path}: {right:.2%} right, largest difference of a posterior {difference:g}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
