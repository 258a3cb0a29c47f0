"""The gradient before a ReLU, with that of the bias, and through a pooling of 2x2 with stride 2.

What torch does in three to five passes over memory the kernels do in one. Sums are over blocks of
rows in a fixed order, then over the blocks; they depend on the shape alone, not on the device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffecompat.net.kernels.launching import OPTIONS, launching
from caffecompat.net.kernels.memory_format import in_order, order_of
from caffecompat.net.kernels.pooling import NONE, PoolingWindows, spread_by_torch

_ELEMENTS = 2048
_MOST_COLUMNS = 128
_MOST_PROGRAMS = 1024
HALVING = PoolingWindows((2, 2), (2, 2), (0, 0), ceil=True)


def rectified_gradient(gradient: Tensor, value: Tensor, kernel: bool) -> tuple[Tensor, Tensor]:
    """The gradient of what a ReLU was given, and its sum over all positions.

    Args:
        gradient: of the ReLU's top ``value``, (N, C, H, W) both.
        kernel: whether the Triton kernel computes it; blobs then have their channels last.

    Returns:
        ``gradient`` where ``value`` is above 0, else 0; and (C,) fp32.
    """
    if not kernel or not gradient.numel():
        return rectified_by_torch(gradient, value)
    from caffecompat.net.kernels.triton_code import rectified as code

    gradient, value = in_order(gradient, last=True), in_order(value, last=True)
    result = torch.empty_like(gradient)
    channels = gradient.shape[1]
    rows = gradient.numel() // channels
    grid, partial, constants = _blocks(gradient, rows, channels)
    with launching("rectified", gradient):
        code.rectified_gradient[grid](gradient, value, result, partial, rows, channels, **constants)
    return result, partial.sum(0)


def rectified_by_torch(gradient: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`rectified_gradient` in torch operators."""
    result = gradient.masked_fill(value <= 0, 0)
    return result, result.sum((0, 2, 3), dtype=torch.float32)


def unpooled_gradient(
    gradient: Tensor, index: Tensor, plane: Any, kernel: bool
) -> tuple[Tensor, Tensor]:
    """The same for a ReLU that a maximum pooling of 2x2 windows with stride 2 follows.

    Args:
        gradient: of the pooling's top, (N, C, H', W').
        index: its bytes of index, :data:`NONE` where the maximum is not above 0.
        plane: H and W before the pooling; the last window of each axis may be cut.
    """
    if not kernel or not gradient.numel():
        result = spread_by_torch(gradient, index, plane, HALVING)
        passed = gradient.masked_fill(index == NONE, 0)
        return result, passed.sum((0, 2, 3), dtype=torch.float32)
    from caffecompat.net.kernels.triton_code import rectified as code

    gradient, index = in_order(gradient, last=True), in_order(index, last=True)
    samples, channels = gradient.shape[:2]
    rows = gradient.numel() // channels
    result = torch.empty(
        (samples, channels, *plane),
        dtype=gradient.dtype,
        device=gradient.device,
        memory_format=order_of(last=True),
    )
    grid, partial, constants = _blocks(gradient, rows, channels)
    with launching("rectified", gradient):
        code.unpooled_gradient[grid](
            *(gradient, index, result, partial, rows, channels, *plane), **constants
        )
    return result, partial.sum(0)


def _blocks(
    matrix: Tensor, rows: int, channels: int
) -> tuple[tuple[int, int], Tensor, dict[str, Any]]:
    """Grid, partial sums and constants with options, by the shape of the matrix alone.

    Each program takes a power of two of blocks, so that few variants of a kernel are compiled.
    """
    columns = min(_MOST_COLUMNS, _power_of_two(channels))
    block = _ELEMENTS // columns
    blocks = -(-rows // block)
    each = _power_of_two(-(-blocks // _MOST_PROGRAMS))
    programs = -(-blocks // each)
    partial = torch.empty((programs, channels), dtype=torch.float32, device=matrix.device)
    grid = (programs, -(-channels // columns))
    return grid, partial, {"BLOCKS": each, "ROWS": block, "COLUMNS": columns, **OPTIONS}


def _power_of_two(number: int) -> int:
    """The smallest power of two that is not below ``number``, which is positive."""
    return 1 << (number - 1).bit_length()
