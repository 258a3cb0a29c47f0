"""The filler gaussian, dense or sparse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers.fillers.base import Request, register

if TYPE_CHECKING:
    from torch import Tensor


@register("gaussian")
def gaussian(request: Request) -> Tensor:
    """Normal with ``mean`` and ``std``, 0 and 1 by default.

    With ``sparse`` >= 0 each value is kept with probability sparse / shape[0] and is 0 otherwise,
    so that each input has ``sparse`` non-zero weights on average. Source: Caffe's GaussianFiller.
    """
    p = request.message
    request.check(p.std > 0, f"std is {p.std:g}, it must be positive (zeros: type 'constant')")
    if p.sparse == -1:
        return request.empty().normal_(p.mean, p.std, generator=request.generator)
    request.check(len(request.shape) > 0, "sparse needs at least one axis")
    outputs = request.shape[0]
    request.check(
        0 <= p.sparse <= outputs,
        f"sparse is {p.sparse}, it must be between 0 and the first extent {outputs}",
    )
    values = request.empty().normal_(p.mean, p.std, generator=request.generator)
    keep = request.empty().bernoulli_(p.sparse / outputs, generator=request.generator)
    return values.mul_(keep)
