"""Shape rules of convolution, pooling and batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffecompat.net.shapes.rules import Rules, in_order, result

rules = Rules()


@dataclass(frozen=True)
class _Kernel:
    """How the kernel of a convolution moves: one entry per spatial axis; and the groups."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    output_padding: Sequence[int]
    groups: int

    def moves_over(self, axes: int) -> bool:
        """Whether this is a valid movement over ``axes`` spatial axes."""
        lists = [self.stride, self.padding, self.dilation]
        if self.transposed:
            lists.append(self.output_padding)
        return (
            axes > 0
            and self.groups > 0
            and all(len(values) == axes for values in lists)
            and min(*self.stride, *self.dilation) > 0
            and min(self.padding) >= 0
        )

    def extents(self, bottom: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """The spatial extents of the result; none where torch refuses the output padding."""
        places = zip(bottom, kernel, self.stride, self.padding, self.dilation, strict=True)
        if not self.transposed:
            return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in places]
        steps = zip(self.output_padding, self.stride, self.dilation, strict=True)
        if not all(0 <= more < max(s, d) for more, s, d in steps):
            return []
        inner = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in places]
        return [n + more for n, more in zip(inner, self.output_padding, strict=True)]


@rules.of("convolution")
def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor | None:
    kernel = _Kernel(*settings)
    if weight.dim() != x.dim() or not kernel.moves_over(x.dim() - 2) or not in_order(x):
        return None
    rows, columns = weight.shape[0], weight.shape[1] * kernel.groups
    channels, outputs = (rows, columns) if kernel.transposed else (columns, rows)
    operands = [weight] if bias is None else [weight, bias]
    fits = (
        x.shape[1] == channels
        and rows % kernel.groups == 0
        and min(*x.shape, *weight.shape) > 0
        and (bias is None or tuple(bias.shape) == (outputs,))
        and all(operand.dtype == x.dtype for operand in operands)
    )
    extents = kernel.extents(x.shape[2:], weight.shape[2:])
    if not fits or min(extents, default=0) < 1:
        return None
    return result((x.shape[0], outputs, *extents), x.dtype)


@rules.of("max_pool2d_with_indices")
def max_pool2d_with_indices(
    self: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | None:
    shape = _pooled(self, kernel_size, stride, padding, dilation, ceil_mode)
    return None if shape is None else (result(shape, self.dtype), result(shape, torch.int64))


@rules.of("avg_pool2d")
def avg_pool2d(
    self: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    shape = _pooled(self, kernel_size, stride, padding, (1, 1), ceil_mode)
    return None if shape is None or divisor_override == 0 else result(shape, self.dtype)


def _pooled(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> tuple[int, ...] | None:
    """The shape after torch's pooling over two axes; None where torch refuses, or may refuse."""
    pairs = [tuple(p) * (2 // len(p)) for p in (kernel, stride or kernel, padding, dilation)]
    if x.dim() not in (3, 4) or any(len(pair) != 2 for pair in pairs):
        return None
    if min(*pairs[0], *pairs[1], *pairs[3], *x.shape) < 1 or not in_order(x):
        return None
    extents = []
    for size, k, s, pad, d in zip(x.shape[-2:], *pairs, strict=True):
        span = size + 2 * pad - d * (k - 1) - 1
        count = (-(-span // s) if ceil else span // s) + 1
        if ceil and (count - 1) * s >= size + pad:
            count -= 1
        if count < 1 or not 0 <= 2 * pad <= k:
            return None
        extents.append(count)
    return (*x.shape[:-2], *extents)


@rules.of("native_batch_norm")
def native_batch_norm(x: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor] | None:
    """``settings`` are weight, bias, running mean and variance, training, momentum and eps."""
    values, training = settings[:4], settings[4]
    if x.dim() < 2 or x.dtype not in (torch.float32, torch.float64) or not in_order(x):
        return None
    channels = x.shape[1]
    given = [value for value in values if value is not None]
    if any((tuple(value.shape), value.dtype) != ((channels,), x.dtype) for value in given):
        return None
    if x.numel() == 0 or (not training and None in (values[2], values[3])):
        return None
    return result(x.shape, x.dtype), result((channels,), x.dtype), result((channels,), x.dtype)
