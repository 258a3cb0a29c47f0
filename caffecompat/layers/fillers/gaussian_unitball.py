"""The filler gaussian_unitball of NormFace's Caffe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("gaussian_unitball")
def gaussian_unitball(request: Request) -> Tensor:
    """Normal, then each row (all but the first axis) divided by its norm, sqrt(sum x^2 + 1e-12).

    Source: GaussianUnitBallFiller of NormFace's Caffe.
    """
    request.check(len(request.shape) > 0, "it needs at least one axis")
    rows = request.empty().normal_(generator=request.generator).view(request.shape[0], -1)
    norms = (rows * rows).sum(1, keepdim=True).add_(1e-12).sqrt_()
    return (rows / norms).view(request.shape)
