"""Operations on two blobs whose axes are broadcast, as in Synopsys' Caffe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, format_shape

if TYPE_CHECKING:
    from torch import Tensor


def check_broadcast(layer: Layer, first: Tensor, second: Tensor) -> None:
    """Refuses two blobs with axes that differ, where neither is 1; axes count from the last one."""
    pairs = zip(reversed(first.shape), reversed(second.shape), strict=False)
    layer.check(
        all(a == b or 1 in (a, b) for a, b in pairs),
        f"its blobs are {format_shape(first.shape)} and {format_shape(second.shape)}; axes must be "
        "equal or 1, counted from the last one",
    )
