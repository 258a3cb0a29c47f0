"""Selection of rows whose gradient is the same in every run, on a GPU too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def selected(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """``x.index_select(axis, index)``; indices may repeat.

    On a GPU torch adds the gradients of repeated rows in the order in which threads end.
    """
    if not x.is_cuda:
        return x.index_select(axis, index)
    return repeatable_selection()(x, axis, index)


def added_up(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """(count, ...): for each place the sum of the rows (N, ...) whose index (N,) it is."""
    sums = rows.new_zeros((count, *rows.shape[1:]))
    if not rows.is_cuda:
        return sums.index_add_(0, index, rows)
    # On a GPU this operator sorts the indices and adds up rows of one place in their order; torch
    # itself uses it where it must be deterministic. On a CPU its threads may add in any order.
    return sums.index_put_((index,), rows, accumulate=True)


@cache
def repeatable_selection() -> Any:
    """The function (x, axis, index) that GPUs use."""
    import torch

    class Selection(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, axis: int, index: Tensor) -> Tensor:
            ctx.save_for_backward(index)
            ctx.shape, ctx.axis = x.shape, axis
            return x.index_select(axis, index)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            (index,) = ctx.saved_tensors
            rows = gradient.movedim(ctx.axis, 0)
            sums = added_up(rows, index, ctx.shape[ctx.axis])
            return sums.movedim(0, ctx.axis), None, None

    return Selection.apply
