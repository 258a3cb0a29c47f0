"""Regions of interest: rows [image, x1, y1, x2, y2] as bottoms of pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, format_shape

if TYPE_CHECKING:
    from torch import Tensor


def check_regions(layer: Layer, features: Sequence[int], regions: Sequence[int]) -> None:
    """Refuses shapes of bottoms other than features (N, C, H, W) and regions (R, 5[, 1, 1])."""
    layer.check(
        len(features) == 4,
        f"its first bottom is {format_shape(features)}, expected features N x C x H x W",
    )
    rows = regions[0] if regions else 0
    layer.check(
        len(regions) >= 2 and regions[1] == 5 and prod(regions) == 5 * rows,
        f"its second bottom is {format_shape(regions)}, expected regions R x 5, with rows "
        "[image, x1, y1, x2, y2]",
    )


def columns(regions: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The image numbers (R) as int64, and x1, y1, x2, y2 (R), without gradients."""
    image, x1, y1, x2, y2 = regions.detach().reshape(-1, 5).unbind(1)
    return image.long(), (x1, y1, x2, y2)


def padded(
    corners: tuple[Tensor, Tensor, Tensor, Tensor], ratio: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Corners of boxes that are enlarged on each side by ``ratio`` times their size."""
    x1, y1, x2, y2 = corners
    wide, high = (x2 - x1 + 1) * ratio, (y2 - y1 + 1) * ratio
    return x1 - wide, y1 - high, x2 + wide, y2 + high


def check_images(layer: Layer, image: Tensor, images: int) -> None:
    """Refuses regions of images that are not in the batch, without waiting for a device.

    Args:
        image: (R), the image of each region.
        images: the number of images of the batch.

    Raises:
        LayerError: a region's image is not in the batch, on a CPU.
    """
    with naming_bad_images(layer, images):
        image.new_zeros(images).index_select(0, image)


def naming_bad_images(layer: Layer, images: int) -> AbstractContextManager[None]:
    """:func:`~caffecompat.layers._bad_index.explaining_bad_index` for the images of regions."""
    return explaining_bad_index(
        layer,
        f"a region belongs to an image outside 0 to {images - 1}, the images of the first "
        "bottom; the first number of its row is the index of the image in the batch",
    )
