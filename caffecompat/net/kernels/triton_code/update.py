"""The update of SGD with momentum as a Triton kernel."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sgd_update(
    value,
    gradient,
    history,
    rate,
    skip,
    momentum,
    decay,
    size,
    SKIPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """h = momentum h + rate (g + decay w); w = w - h. Nothing changes if ``skip`` is not 0.

    ``rate`` and ``skip`` are addresses of one number each, so that a CUDA graph reads what they
    are when it is played back.
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
    tl.store(value + offset, w - h, mask=active)
