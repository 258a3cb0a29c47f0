"""The update of SGD with momentum as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sgd_update(
    value,
    gradient,
    history,
    copy,
    rate,
    skip,
    momentum,
    decay,
    size,
    SKIPS: tl.constexpr,
    COPIES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """h = momentum h + rate (g + decay w); w = w - h. Nothing changes if ``skip`` is not 0.

    ``rate`` and ``skip`` are addresses of one number each, so that a CUDA graph reads what they
    are when it is played back. With ``COPIES`` the new values are written to ``copy``, too, rounded
    to its type.
    """
    offset = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    if SKIPS:
        size = tl.where(tl.load(skip) == 0, size, 0)
    active = offset < size
    w = tl.load(value + offset, mask=active, other=0.0)
    g = tl.load(gradient + offset, mask=active, other=0.0).to(tl.float32)
    h = tl.load(history + offset, mask=active, other=0.0)
    h = momentum * h + tl.load(rate) * (g + decay * w)
    tl.store(history + offset, h, mask=active)
    w = w - h
    tl.store(value + offset, w, mask=active)
    if COPIES:
        tl.store(copy + offset, w.to(copy.dtype.element_ty), mask=active)
