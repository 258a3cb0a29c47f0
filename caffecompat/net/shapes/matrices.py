"""Shape rules of products of matrices, joins, selections and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor

from caffecompat.net.shapes.rules import Rules, axis_of, broadcast, in_order, result

rules = Rules()


@rules.of("mm")
def mm(self: Tensor, mat2: Tensor) -> Tensor | None:
    fits = self.dim() == mat2.dim() == 2 and self.shape[1] == mat2.shape[0]
    if not fits or self.dtype != mat2.dtype:
        return None
    return result((self.shape[0], mat2.shape[1]), self.dtype)


@rules.of("addmm")
def addmm(self: Tensor, mat1: Tensor, mat2: Tensor, **factors: Any) -> Tensor | None:
    product = mm(mat1, mat2)
    if product is None or self.dtype != product.dtype or broadcast(self, product) != product.shape:
        return None
    return product


@rules.of("bmm")
def bmm(self: Tensor, mat2: Tensor) -> Tensor | None:
    fits = self.dim() == mat2.dim() == 3 and self.shape[::2] == mat2.shape[:2]
    if not fits or self.dtype != mat2.dtype:
        return None
    return result((*self.shape[:2], mat2.shape[2]), self.dtype)


@rules.of("cat")
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    axis = axis_of(dim, first)
    if axis is None or not in_order(*tensors):
        return None

    def around(tensor: Tensor) -> tuple[Any, ...]:
        return (tensor.dtype, tensor.shape[:axis], tensor.shape[axis + 1 :])

    if any(x.numel() == 0 or around(x) != around(first) for x in tensors):
        return None
    joined = sum(x.shape[axis] for x in tensors)
    return result((*first.shape[:axis], joined, *first.shape[axis + 1 :]), first.dtype)


@rules.of("stack")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    axes = first.dim() + 1
    if any((x.shape, x.dtype) != (first.shape, first.dtype) for x in tensors):
        return None
    if not -axes <= dim < axes or not in_order(*tensors):
        return None
    at = dim % axes
    return result((*first.shape[:at], len(tensors), *first.shape[at:]), first.dtype)


@rules.of("repeat")
def repeat(self: Tensor, repeats: Sequence[int]) -> Tensor | None:
    if len(repeats) < self.dim() or min(repeats, default=0) < 0:
        return None
    padded = (1,) * (len(repeats) - self.dim()) + tuple(self.shape)
    return result((n * extent for n, extent in zip(repeats, padded, strict=True)), self.dtype)


@rules.of("flip")
def flip(self: Tensor, dims: Sequence[int]) -> Tensor | None:
    axes = {axis_of(dim, self) for dim in dims}
    fits = None not in axes and len(axes) == len(dims) and in_order(self)
    return result(self.shape, self.dtype) if fits else None


@rules.of("gather")
def gather(self: Tensor, dim: int, index: Tensor, **more: Any) -> Tensor | None:
    return result(index.shape, self.dtype) if _indexes(index, self, dim) else None


@rules.of("scatter.value")
def scatter(self: Tensor, dim: int, index: Tensor, value: Any) -> Tensor | None:
    fits = _indexes(index, self, dim) and in_order(self)
    return result(self.shape, self.dtype) if fits else None


@rules.of("scatter_add")
def scatter_add(self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor | None:
    if index.shape != src.shape or src.dtype != self.dtype:
        return None
    return scatter(self, dim, index, src)


def _indexes(index: Tensor, values: Tensor, dim: int) -> bool:
    """Whether ``index`` can select from ``values`` along ``dim``."""
    axis = axis_of(dim, values)
    if axis is None or index.dtype != torch.int64 or index.dim() != values.dim():
        return False
    pairs = zip(index.shape, values.shape, strict=True)
    return all(i == axis or 0 < own <= extent for i, (own, extent) in enumerate(pairs))


@rules.of("embedding")
def embedding(weight: Tensor, indices: Tensor, *options: Any, **more: Any) -> Tensor | None:
    if weight.dim() != 2 or indices.dtype not in (torch.int32, torch.int64):
        return None
    return result((*indices.shape, weight.shape[1]), weight.dtype)


@rules.of("_log_softmax", "_softmax")
def softmax(self: Tensor, dim: int, half_to_float: bool) -> Tensor | None:
    fits = axis_of(dim, self) is not None and self.is_floating_point() and not half_to_float
    return result(self.shape, self.dtype) if fits and in_order(self) else None


@rules.of("cumsum")
def cumsum(self: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor | None:
    fits = axis_of(dim, self) is not None and self.is_floating_point() and in_order(self)
    return result(self.shape, dtype or self.dtype) if fits else None


@rules.of("sort.stable")
def sort(
    self: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor] | None:
    if axis_of(dim, self) is None or not in_order(self):
        return None
    return result(self.shape, self.dtype), result(self.shape, torch.int64)


@rules.of("sum.dim_IntList", "mean.dim", "amax", "amin")
def reduction(
    self: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    """The sum, mean, or extreme value along some axes; along all if there are none in ``dim``."""
    axes = [axis_of(d, self) for d in dim or range(self.dim())]
    if None in axes or len(set(axes)) < len(axes) or not in_order(self):
        return None
    if not self.is_floating_point() or prod(self.shape) == 0:
        return None
    kept = [1 if i in axes else n for i, n in enumerate(self.shape) if keepdim or i not in axes]
    return result(kept, dtype or self.dtype)


@rules.of("arange", "arange.start", "arange.start_step")
def arange(*limits: Any, dtype: torch.dtype | None = None, **more: Any) -> Tensor | None:
    """Integers, from 0 or from the first limit, up to (and without) the next, in steps."""
    if not all(type(limit) is int for limit in limits) or more.get("layout") is not None:
        return None
    start, end, step = (0, *limits, 1) if len(limits) == 1 else (*limits, 1)[:3]
    if step <= 0 or end < start:
        return None
    return result((ceil((end - start) / step),), dtype or torch.int64)
