"""Losses of YOLO, which are sums of squares of their own gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def with_gradient(x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """``value`` (0 axes) as a function of ``x`` whose gradient is ``gradient``."""
    passed = (x * gradient.detach()).sum()
    return value.detach() + passed - passed.detach()


def squares(x: Tensor, differences: np.ndarray, divided: bool = True) -> Tensor:
    """The sum of squares by the number of images, with the differences as its gradient.

    The gradient is that of the original, which is not the derivative of the sum. Without
    ``divided`` the value is the sum, but the gradient stays divided by the number of images.
    """
    import torch

    gradient = torch.from_numpy(differences).to(x)
    images = max(len(x), 1)
    total = gradient.square().sum()
    return with_gradient(x, total / images if divided else total, gradient / images)


def sigmoid(x: np.ndarray) -> np.ndarray:
    import numpy as np

    result: np.ndarray = 1 / (1 + np.exp(-x))
    return result


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) around a centre; the shapes are broadcast."""
    import numpy as np

    low = np.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    high = np.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    common = np.clip(high - low, 0, None).prod(-1)
    union = first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - common
    result: np.ndarray = common / union
    return result


def best_overlaps(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The largest overlap of each of the boxes (..., 4) with one of ``truth`` (T, 4); 0 if none."""
    import numpy as np

    if not len(truth):
        return np.zeros(boxes.shape[:-1], boxes.dtype)
    result: np.ndarray = overlaps(boxes[..., None, :], truth).max(-1)
    return result


def objects_of(labels: np.ndarray, image: int, images: int) -> np.ndarray:
    """The objects (T, 5) of an image: rows [class, x, y, width, height] up to the first x of 0."""
    rows: np.ndarray = labels.reshape(images, -1, 5)[image]
    ends = (rows[:, 1] == 0).nonzero()[0]
    return rows[: ends[0]] if len(ends) else rows
