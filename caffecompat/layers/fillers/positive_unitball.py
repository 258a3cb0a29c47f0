"""The filler positive_unitball."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("positive_unitball")
def positive_unitball(request: Request) -> Tensor:
    """Uniform in [0, 1), then each row (all but the first axis) divided by its sum.

    Source: Caffe's PositiveUnitballFiller.
    """
    request.check(len(request.shape) > 0, "it needs at least one axis")
    rows = request.empty().uniform_(generator=request.generator).view(request.shape[0], -1)
    return (rows / rows.sum(1, keepdim=True)).view(request.shape)
