"""Values put back at the positions from which MAX pooling took them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, format_shape

if TYPE_CHECKING:
    from torch import Tensor


def put_at_mask(layer: Layer, x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """(N, C, height, width): zeros, but ``x`` (N, C, h, w) at ``mask``.

    ``mask`` has the shape of ``x`` and holds indices row ``width`` + column, as the second top of a
    Pooling layer does. Of values with one index the last one stays.

    Raises:
        LayerError: the shapes differ, or, on a CPU, an index lies outside of the plane.
    """
    layer.check(
        x.dim() == 4 and mask.shape == x.shape,
        f"its bottoms are {format_shape(x.shape)} and {format_shape(mask.shape)}; the second one "
        "must be the mask of a MAX pooling, in the shape of the first",
    )
    y = x.new_zeros(*x.shape[:2], height * width)
    with explaining_bad_index(
        layer,
        f"the mask points outside of the top's plane {height}x{width}; its size must be that "
        "of the bottom of the Pooling layer",
    ):
        y = y.scatter(2, mask.detach().long().flatten(2), x.flatten(2))
    return y.unflatten(2, (height, width))
