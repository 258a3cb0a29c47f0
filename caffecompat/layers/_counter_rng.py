"""Counter-based random numbers for layers.

A number depends on (seed, layer, sample, element) alone. There is no state: a resumed run equals
an uninterrupted one, a batch may be divided into any number of passes, and a pass can be compiled
or captured in a CUDA graph.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from caffecompat.data.shard import SampleRange

_SIGN = 1 << 63


class Noise:
    """Random bits for one layer.

    Args:
        seed: the run's seed.
        layer: the layer's name; the numbers of different layers are independent.
        position: 0-axis int64 tensor with the index of the current pass. The net changes it in
            place, and replaces it when the net moves to another device.
        samples: the samples of each pass that this rank computes; None means all.

    Attributes:
        key: signed 64-bit key of seed and layer.
    """

    def __init__(
        self, seed: int, layer: str, position: torch.Tensor, samples: SampleRange | None = None
    ) -> None:
        self.position = position
        self.samples = samples
        self.key = derive_seed(seed, "noise", layer)

    def range_of(self, samples: int) -> tuple[int, int]:
        """The first of ``samples`` samples of a pass, and the samples of all ranks."""
        return (0, samples) if self.samples is None else self.samples.of(samples)

    def bits(self, like: torch.Tensor, position: torch.Tensor | None = None) -> torch.Tensor:
        """Integers uniform in [0, 2^31), int32, in the shape of ``like`` (N, ...).

        Each sample has a 64-bit key, splitmix64's finaliser of its number in the run; each element
        is a 32-bit hash of its index with that key. ``position`` replaces that of the running pass.
        """
        import torch

        samples = like.shape[0] if like.dim() else 1
        per_sample = like.numel() // max(samples, 1)
        first, total = self.range_of(samples)
        position = self.position if position is None else position
        ordinal = position.to(like.device) * total
        ordinal = ordinal + torch.arange(first, first + samples, device=like.device)
        key = _mix64(ordinal * _signed(0x9E3779B97F4A7C15) + self.key)
        low = (key & 0x7FFFFFFF).to(torch.int32)
        high = ((key >> 32) & 0x7FFFFFFF).to(torch.int32)
        element = torch.arange(per_sample, device=like.device, dtype=torch.int32)
        hashed = _mix32(_mix32(element + low.unsqueeze(1)) ^ high.unsqueeze(1))
        return (hashed & 0x7FFFFFFF).view(like.shape)

    def keep(
        self, like: torch.Tensor, probability: float, position: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Booleans in the shape of ``like``, each true with ``probability`` (in [0, 1])."""
        return self.bits(like, position) < threshold_of(probability)


def threshold_of(probability: float) -> int:
    """The number that bits are below with ``probability``."""
    return min(round(probability * 2**31), 2**31 - 1)


def derive_seed(seed: int, *names: object) -> int:
    """A signed 64-bit key for one purpose, from the run's seed and the purpose's names."""
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= _SIGN else value


def _mix64(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift(x, 30, 64)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27, 64)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31, 64)


def _mix32(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift(x, 16, 32)) * 0x7FEB352D
    x = (x ^ _shift(x, 15, 32)) * (0x846CA68B - (1 << 32))
    return x ^ _shift(x, 16, 32)


def _shift(x: torch.Tensor, places: int, width: int) -> torch.Tensor:
    """Logical right shift; torch's operator is arithmetic."""
    return (x >> places) & ((1 << (width - places)) - 1)
