"""Bilinear resizing of planes around which everything is 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._repeatable_gradients import selected

if TYPE_CHECKING:
    from torch import Tensor


def resize_along(x: Tensor, axis: int, count: int, step: float) -> Tensor:
    """``x`` at the positions 0, step, ... (count - 1) step along an axis.

    A position between two elements takes its share of both. After the last element there are
    zeros, so that the values fade.
    """
    import torch

    # The originals compute positions in single precision.
    at = torch.arange(count, dtype=torch.float32, device=x.device) * step
    low = at.floor()
    part = (at - low).to(x.dtype).view([-1 if i == axis else 1 for i in range(x.dim())])
    padded = torch.cat([x, torch.zeros_like(x.narrow(axis, 0, 1))], axis)
    last = x.shape[axis]
    before = selected(padded, axis, low.long().clamp(max=last))
    after = selected(padded, axis, (low.long() + 1).clamp(max=last))
    return before * (1 - part) + after * part
