"""How the blobs that a kernel gets lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor

# Of a GPU: blocks along the second axis of a grid, which is that of the samples.
MOST_SAMPLES = 65535
# Offsets inside a sample are 32-bit numbers.
MOST_PER_SAMPLE = 2**31 - 4096


def dense(x: Tensor) -> Tensor:
    """``x`` itself if it lies without gaps in one of torch's two orders, else a copy."""
    return x if is_dense(x) else x.contiguous()


def is_dense(x: Tensor) -> bool:
    """Whether ``x`` lies in memory without gaps, in one of torch's two orders."""
    return x.is_contiguous() or is_channels_last(x)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of (N, C, H, W) lie innermost; false where both orders are the same."""
    if x.dim() != 4 or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


def like(x: Tensor, last: bool) -> Tensor:
    """``x`` in the wanted order of memory."""
    return x.contiguous(memory_format=order_of(last))


def order_of(last: bool) -> torch.memory_format:
    """torch's name of an order of (N, C, H, W)."""
    return torch.channels_last if last else torch.contiguous_format


def fits_a_grid(x: Tensor) -> bool:
    """Whether a kernel whose grid is blocks of a sample by samples can work on ``x``."""
    samples = x.shape[0] if x.dim() else 1
    return 0 < samples <= MOST_SAMPLES and 0 < x.numel() // samples <= MOST_PER_SAMPLE
