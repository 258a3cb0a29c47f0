"""Dropout as a Triton kernel; the hash is that of ``caffecompat.layers._counter_rng``."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dropout(
    x,
    y,
    position,
    key,
    first,
    total,
    per_sample,
    channels,
    threshold,
    factor,
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y = x * factor where the hash of an element is below ``threshold``, else x * 0.

    The grid is blocks of one sample by samples. ``position``: int64, the number of the pass;
    ``first`` and ``total``: the first sample of this rank, and the samples of all ranks.
    """
    sample = tl.program_id(1)
    offset = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offset < per_sample
    ordinal = tl.load(position) * total + (first + sample)
    mixed = ordinal * -7046029254386353131 + key
    mixed = (mixed ^ ((mixed >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    mixed = (mixed ^ ((mixed >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    mixed = mixed ^ ((mixed >> 31) & 0x1FFFFFFFF)
    low = (mixed & 0x7FFFFFFF).to(tl.int32)
    high = ((mixed >> 32) & 0x7FFFFFFF).to(tl.int32)
    element = offset
    if CHANNELS_LAST:
        element = (offset % channels) * (per_sample // channels) + offset // channels
    hashed = _mix32(_mix32(element + low) ^ high) & 0x7FFFFFFF
    kept = tl.where(hashed < threshold, factor, 0.0)
    start = sample.to(tl.int64) * per_sample
    value = tl.load(x + start + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + start + offset, (value * kept).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _mix32(x):
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * -2073254261
    return x ^ ((x >> 16) & 0xFFFF)
