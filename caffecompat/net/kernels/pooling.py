"""Maximum pooling of (N, C, H, W) that keeps one byte for each top element.

The byte is the position of the maximum in its window, row-major; of equal values the first is
taken, as in Caffe, and NaN counts as larger than any number, as in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffecompat.layers._pooling_windows import torch_count
from caffecompat.net.kernels.launching import OPTIONS, launching
from caffecompat.net.kernels.memory_format import (
    dense,
    fits_a_grid,
    in_order,
    is_channels_last,
    order_of,
)

# The index of a maximum that passes no gradient on.
NONE = 255
# The largest window: 255 is no position in it, and longer loops gain nothing.
MOST_ELEMENTS = 64
_BLOCK = 1024

Pair = tuple[int, int]


@dataclass(frozen=True)
class PoolingWindows:
    """Windows without dilation, each of which has an element of the plane.

    Attributes:
        kernel, stride, pad: height before width; ``pad`` is at most half the kernel.
        ceil: torch's ``ceil_mode``.
        kernel_computes: whether the Triton kernels compute maxima and gradients.
    """

    kernel: Pair
    stride: Pair
    pad: Pair
    ceil: bool
    kernel_computes: bool = False

    def count(self, height: int, width: int) -> Pair:
        """The extents of the top."""
        rows, columns = (
            torch_count(size, kernel, stride, pad, self.ceil)
            for size, kernel, stride, pad in zip(
                (height, width), self.kernel, self.stride, self.pad, strict=True
            )
        )
        return rows, columns

    def constants(self) -> dict[str, int]:
        """The windows as the kernels' constants."""
        names = ("KERNEL", "STRIDE", "PAD")
        pairs = zip(names, (self.kernel, self.stride, self.pad), strict=True)
        return {f"{name}_{axis}": pair[i] for name, pair in pairs for i, axis in enumerate("HW")}


def max_pool(x: Tensor, windows: PoolingWindows) -> Tensor:
    """The maximum of each window, with a gradient."""
    result: Tensor = _MaxPool.apply(x, windows)
    return result


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: PoolingWindows) -> Tensor:
        y, index = maxima(x, windows)
        ctx.windows, ctx.plane = windows, x.shape[2:]
        ctx.save_for_backward(index)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return spread(gradient, index, ctx.plane, ctx.windows), None


def maxima(x: Tensor, windows: PoolingWindows, none_if_zero: bool = False) -> tuple[Tensor, Tensor]:
    """Maxima and their bytes of index, in the memory order of ``x``.

    With ``none_if_zero`` the index of a maximum that is not above 0 is :data:`NONE`: the value
    comes from a ReLU, through which no gradient passes there.
    """
    if windows.kernel_computes and fits_a_grid(x):
        return _launch_maxima(dense(x), windows, none_if_zero)
    return maxima_by_torch(x, windows, none_if_zero)


def maxima_by_torch(
    x: Tensor, windows: PoolingWindows, none_if_zero: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`maxima` in torch operators."""
    y, flat = F.max_pool2d(
        *(x, windows.kernel, windows.stride, windows.pad),
        ceil_mode=windows.ceil,
        return_indices=True,
    )
    height, width = y.shape[2:]
    row, column = flat // x.shape[3], flat % x.shape[3]
    first_row = torch.arange(height, device=x.device) * windows.stride[0] - windows.pad[0]
    first_column = torch.arange(width, device=x.device) * windows.stride[1] - windows.pad[1]
    index = (row - first_row.unsqueeze(1)) * windows.kernel[1] + (column - first_column)
    if none_if_zero:
        index = index.masked_fill(y <= 0, NONE)
    return y, index.to(torch.uint8)


def spread(gradient: Tensor, index: Tensor, plane: Any, windows: PoolingWindows) -> Tensor:
    """The gradient of the bottom: of each element the sum over the windows that took it.

    Args:
        gradient, index: (N, C, H', W').
        plane: H and W of the bottom.
    """
    if windows.kernel_computes and fits_a_grid(gradient):
        return _launch_spread(gradient, index, plane, windows)
    return spread_by_torch(gradient, index, plane, windows)


def spread_by_torch(gradient: Tensor, index: Tensor, plane: Any, windows: PoolingWindows) -> Tensor:
    """:func:`spread` in torch operators: one strided sum for each position in a window."""
    count, extents = index.shape[2:], []
    for axis in (0, 1):
        reach = (count[axis] - 1) * windows.stride[axis] + windows.kernel[axis]
        extents.append(max(reach, plane[axis] + windows.pad[axis]))
    canvas = gradient.new_zeros((*index.shape[:2], *extents), dtype=torch.float32)
    values = gradient.float()
    for position in reversed(range(windows.kernel[0] * windows.kernel[1])):
        i, j = divmod(position, windows.kernel[1])
        rows = slice(i, i + (count[0] - 1) * windows.stride[0] + 1, windows.stride[0])
        columns = slice(j, j + (count[1] - 1) * windows.stride[1] + 1, windows.stride[1])
        canvas[:, :, rows, columns] += values.where(index == position, 0)
    top, left = windows.pad
    result = canvas[:, :, top : top + plane[0], left : left + plane[1]].to(gradient.dtype)
    return in_order(result, is_channels_last(index))


def _launch_maxima(x: Tensor, windows: PoolingWindows, none_if_zero: bool) -> tuple[Tensor, Tensor]:
    import triton

    from caffecompat.net.kernels.triton_code import pooling as code

    samples, channels, height, width = x.shape
    count = windows.count(height, width)
    last = is_channels_last(x)
    shape = (samples, channels, *count)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=order_of(last))
    index = torch.empty_like(y, dtype=torch.uint8)
    with launching("pooling", x):
        code.max_pool[(triton.cdiv(y.numel() // samples, _BLOCK), samples)](
            *(x, y, index, channels, height, width, *count),
            **windows.constants(),
            CHANNELS_LAST=last,
            NONE_IF_ZERO=none_if_zero,
            BLOCK=_BLOCK,
            **OPTIONS,
        )
    return y, index


def _launch_spread(gradient: Tensor, index: Tensor, plane: Any, windows: PoolingWindows) -> Tensor:
    import triton

    from caffecompat.net.kernels.triton_code import pooling as code

    last = is_channels_last(index)
    gradient = in_order(gradient, last)
    samples, channels, *count = index.shape
    shape = (samples, channels, *plane)
    result = torch.empty(
        shape, dtype=gradient.dtype, device=gradient.device, memory_format=order_of(last)
    )
    with launching("pooling", gradient):
        code.max_pool_gradient[(triton.cdiv(result.numel() // samples, _BLOCK), samples)](
            *(gradient, index, result, channels, *plane, *count),
            **windows.constants(),
            CHANNELS_LAST=last,
            BLOCK=_BLOCK,
            **OPTIONS,
        )
    return result
