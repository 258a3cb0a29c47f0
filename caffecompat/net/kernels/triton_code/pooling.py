"""Maximum pooling with one byte of index, and its gradient, as Triton kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def element_at(offset, channels, height, width, CHANNELS_LAST: tl.constexpr):
    """Channel, row and column of the elements of one sample at an offset."""
    if CHANNELS_LAST:
        channel = offset % channels
        place = offset // channels
        column = place % width
        row = place // width
    else:
        column = offset % width
        place = offset // width
        row = place % height
        channel = place // height
    return channel, row, column


@triton.jit
def max_pool(
    x,
    y,
    index,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    NONE_IF_ZERO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The maximum of each window, and its position in the window, row-major.

    With ``NONE_IF_ZERO`` the index of a maximum that is not above 0 is 255. The grid is blocks of
    one sample by samples.
    """
    sample = tl.program_id(1).to(tl.int64)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < channels * top_height * top_width
    channel, row, column = element_at(offset, channels, top_height, top_width, CHANNELS_LAST)
    first_row = row * STRIDE_H - PAD_H
    first_column = column * STRIDE_W - PAD_W
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    # Where all elements are -inf, torch takes the first.
    chosen = tl.maximum(-first_row, 0) * KERNEL_W + tl.maximum(-first_column, 0)
    source = x + sample * (channels * height * width)
    for i in range(KERNEL_H):
        for j in range(KERNEL_W):
            h = first_row + i
            w = first_column + j
            exists = inside & (h >= 0) & (h < height) & (w >= 0) & (w < width)
            if CHANNELS_LAST:
                at = (h * width + w) * channels + channel
            else:
                at = (channel * height + h) * width + w
            value = tl.load(source + at, mask=exists, other=float("-inf")).to(tl.float32)
            better = exists & ((value > best) | (value != value))
            best = tl.where(better, value, best)
            chosen = tl.where(better, i * KERNEL_W + j, chosen)
    if NONE_IF_ZERO:
        chosen = tl.where(best <= 0, 255, chosen)
    start = sample * (channels * top_height * top_width)
    tl.store(y + start + offset, best.to(y.dtype.element_ty), mask=inside)
    tl.store(index + start + offset, chosen.to(tl.uint8), mask=inside)


@triton.jit
def max_pool_gradient(
    gradient,
    index,
    result,
    channels,
    height,
    width,
    top_height,
    top_width,
    KERNEL_H: tl.constexpr,
    KERNEL_W: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """For each element the sum of the gradients of the windows that took it, in fp32.

    Each element looks at the windows that cover it, in row-major order, so that the sums are the
    same in every run. The grid is blocks of one sample by samples.
    """
    sample = tl.program_id(1).to(tl.int64)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < channels * height * width
    channel, h, w = element_at(offset, channels, height, width, CHANNELS_LAST)
    rows: tl.constexpr = (KERNEL_H - 1) // STRIDE_H + 1
    columns: tl.constexpr = (KERNEL_W - 1) // STRIDE_W + 1
    last_row = (h + PAD_H) // STRIDE_H
    last_column = (w + PAD_W) // STRIDE_W
    start = sample * (channels * top_height * top_width)
    total = tl.zeros([BLOCK], tl.float32)
    for a in range(rows):
        for b in range(columns):
            row = last_row - (rows - 1) + a
            column = last_column - (columns - 1) + b
            i = h + PAD_H - row * STRIDE_H
            j = w + PAD_W - column * STRIDE_W
            exists = inside & (row >= 0) & (row < top_height) & (column >= 0)
            exists = exists & (column < top_width) & (i < KERNEL_H) & (j < KERNEL_W)
            if CHANNELS_LAST:
                at = (row * top_width + column) * channels + channel
            else:
                at = (channel * top_height + row) * top_width + column
            taken = tl.load(index + start + at, mask=exists, other=255).to(tl.int32)
            value = tl.load(gradient + start + at, mask=exists, other=0.0).to(tl.float32)
            total = total + tl.where(exists & (taken == i * KERNEL_W + j), value, 0.0)
    to = result + sample * (channels * height * width) + offset
    tl.store(to, total.to(result.dtype.element_ty), mask=inside)
