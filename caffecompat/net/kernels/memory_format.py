"""How the blobs that a kernel gets lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The most blocks along the second axis of a GPU's grid, which has one for each sample.
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


def in_order(x: Tensor, last: bool) -> Tensor:
    """``x`` with its channels innermost in memory (``last``), or in torch's usual order."""
    return x.contiguous(memory_format=order_of(last))


def order_of(last: bool) -> torch.memory_format:
    """torch's name of the order in which (N, C, H, W) has its channels innermost, or not."""
    return torch.channels_last if last else torch.contiguous_format


# Products of 16-bit numbers are fast where the number of channels, innermost, is a multiple of 8.
_GROUP = 8
# More than three times as many channels, most of them padding, cost more than they gain.
_MOST_PADDING = 3


def stored_channels(channels: int) -> int:
    """The channels that a 16-bit blob with its channels innermost is best stored with."""
    stored = -(-channels // _GROUP) * _GROUP
    return stored if stored <= _MOST_PADDING * channels else channels


def empty_stored(
    shape: Sequence[int], stored: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Memory for a blob (N, C, H, W), channels innermost, with ``stored`` channels."""
    n, _, h, w = shape
    form = torch.channels_last
    return torch.empty((n, stored, h, w), dtype=dtype, device=device, memory_format=form)


def with_stored(x: Tensor, stored: int) -> Tensor | None:
    """All ``stored`` channels of a blob that is the first channels of them, else None."""
    if x.dim() != 4 or not x.numel() or stored <= x.shape[1]:
        return None
    n, _, h, w = x.shape
    if x.stride() != (stored * h * w, 1, stored * w, stored):
        return None
    held = x.untyped_storage().nbytes() // x.element_size()
    if x.storage_offset() + n * stored * h * w > held:
        return None
    return x.as_strided((n, stored, h, w), x.stride())


def copy_with_layout(x: Tensor) -> Tensor:
    """A copy without gradient that lies in memory in the same way, with its stored channels."""
    x = x.detach()
    stored = x.stride(3) if x.dim() == 4 else 0
    whole = with_stored(x, stored)
    if whole is None:
        return x.clone()
    return whole.clone()[:, : x.shape[1]]


def fits_a_grid(x: Tensor) -> bool:
    """Whether a kernel whose grid is blocks of a sample by samples can work on ``x``."""
    samples = x.shape[0] if x.dim() else 1
    return 0 < samples <= MOST_SAMPLES and 0 < x.numel() // samples <= MOST_PER_SAMPLE
