"""The gradient before a ReLU, and that of the bias, in one pass, as Triton kernels.

Blobs are matrices here, one row per position and one column per channel: channels last. Each
program adds up BLOCKS blocks of ROWS rows in a fixed order and writes one row of ``partial``, whose
rows are added up afterwards: no sum depends on the order in which programs end.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rectified_gradient(
    gradient,
    value,
    result,
    partial,
    rows,
    channels,
    BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """result = gradient where ``value`` is above 0 (or NaN), else 0."""
    program = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for block in range(BLOCKS):
        row = (program.to(tl.int64) * BLOCKS + block) * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < channels)[None, :]
        at = row[:, None] * channels + column[None, :]
        passed = tl.load(gradient + at, mask=inside, other=0.0)
        closed = tl.load(value + at, mask=inside, other=0.0).to(tl.float32) <= 0
        passed = tl.where(closed, 0.0, passed)
        tl.store(result + at, passed.to(result.dtype.element_ty), mask=inside)
        total += passed.to(tl.float32)
    sums = tl.sum(total, axis=0)
    tl.store(partial + program * channels + column, sums, mask=column < channels)


@triton.jit
def unpooled_gradient(
    gradient,
    index,
    result,
    partial,
    rows,
    channels,
    height,
    width,
    BLOCKS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The same through a pooling of 2x2 windows with stride 2, from its bytes of index.

    ``rows`` counts the positions of the pooled blob; ``height`` and ``width`` are those of the
    blob before it.
    """
    program = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    top_width = (width + 1) // 2
    top_height = (height + 1) // 2
    for block in range(BLOCKS):
        row = (program.to(tl.int64) * BLOCKS + block) * ROWS + tl.arange(0, ROWS)
        inside = (row < rows)[:, None] & (column < channels)[None, :]
        at = row[:, None] * channels + column[None, :]
        passed = tl.load(gradient + at, mask=inside, other=0.0)
        taken = tl.load(index + at, mask=inside, other=255).to(tl.int32)
        left = 2 * (row % top_width)
        top = 2 * ((row // top_width) % top_height)
        sample = row // (top_width * top_height)
        for i in range(2):
            for j in range(2):
                exists = inside & ((top + i < height) & (left + j < width))[:, None]
                place = (sample * height + top + i) * width + left + j
                to = result + place[:, None] * channels + column[None, :]
                chosen = tl.where(taken == 2 * i + j, passed, 0.0)
                tl.store(to, chosen.to(result.dtype.element_ty), mask=exists)
        total += tl.where(taken < 4, passed, 0.0).to(tl.float32)
    sums = tl.sum(total, axis=0)
    tl.store(partial + program * channels + column, sums, mask=column < channels)
