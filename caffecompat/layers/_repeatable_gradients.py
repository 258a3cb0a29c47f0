"""Operations whose gradient is the same in every run, on a GPU too.

Where several elements of a result come from one element, torch adds their gradients on a GPU in the
order in which threads end.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def selected(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """``x.index_select(axis, index)``; indices may repeat."""
    if not x.is_cuda:
        return x.index_select(axis, index)
    return repeatable_selection()(x, axis, index)


def gathered(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """``x.gather(axis, index)``; indices may repeat."""
    if not x.is_cuda:
        return x.gather(axis, index)
    return repeatable_gathering()(x, axis, index)


def resized(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """(N, C, H, W) as (N, C, *size), bilinearly, as torch's ``interpolate``."""
    import torch.nn.functional as F

    if not x.is_cuda:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)
    return repeatable_resizing()(x, size, align_corners)


def maximum_in_3d(
    x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    """``max_pool3d`` of (N, C, D, H, W) without padding."""
    import torch.nn.functional as F

    if not x.is_cuda:
        return F.max_pool3d(x, kernel, stride, dilation=dilation)
    return repeatable_maximum()(x, kernel, stride, dilation)


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


@cache
def repeatable_gathering() -> Any:
    """The function (x, axis, index) that GPUs use."""
    import torch

    class Gathering(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, axis: int, index: Tensor) -> Tensor:
            ctx.save_for_backward(index)
            ctx.shape, ctx.axis = x.shape, axis % x.dim()
            return x.gather(axis, index)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            (index,) = ctx.saved_tensors
            places = _places(index, ctx.shape, ctx.axis).reshape(-1)
            sums = added_up(gradient.reshape(-1), places, prod(ctx.shape))
            return sums.view(ctx.shape), None, None

    return Gathering.apply


def _places(index: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Where each gathered element lies among all elements of its source, in row-major order."""
    import torch

    places, step = torch.zeros_like(index), 1
    for i in reversed(range(len(shape))):
        along = index
        if i != axis:
            along = torch.arange(index.shape[i], device=index.device)
            along = along.view(-1, *(1,) * (len(shape) - 1 - i))
        places = places + along * step
        step *= shape[i]
    return places


@cache
def repeatable_resizing() -> Any:
    """The function (x, size, align_corners) that GPUs use."""
    import torch
    import torch.nn.functional as F

    def shares(extent: int, count: int, aligned: bool, like: Tensor) -> Tensor:
        """(count, extent): of which elements each of the new ones is made."""
        one = torch.eye(extent, device=like.device, dtype=like.dtype)[None, None]
        size = (count, extent)
        return F.interpolate(one, size=size, mode="bilinear", align_corners=aligned)[0, 0]

    class Resizing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, size: tuple[int, int], aligned: bool) -> Tensor:
            ctx.plane, ctx.aligned = x.shape[2:], aligned
            return F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
            whole = gradient if gradient.dtype == torch.float64 else gradient.float()
            rows, columns = (
                shares(extent, count, ctx.aligned, whole)
                for extent, count in zip(ctx.plane, gradient.shape[2:], strict=True)
            )
            return (rows.t() @ whole @ columns).to(gradient.dtype), None, None

    return Resizing.apply


@cache
def repeatable_maximum() -> Any:
    """The function (x, kernel, stride, dilation) that GPUs use."""
    import torch
    import torch.nn.functional as F

    class Maximum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, kernel: Any, stride: Any, dilation: Any) -> Tensor:
            settings = {"dilation": dilation, "return_indices": True}
            y, index = F.max_pool3d(x, kernel, stride, **settings)
            ctx.save_for_backward(index)
            ctx.shape = x.shape
            return y

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
            (index,) = ctx.saved_tensors
            flat = torch.Size((*ctx.shape[:2], prod(ctx.shape[2:])))
            places = _places(index.flatten(2), flat, 2).reshape(-1)
            sums = added_up(gradient.reshape(-1), places, prod(flat))
            return sums.view(ctx.shape), None, None, None

    return Maximum.apply
