"""Cropped pixels as bytes, whose mean, shift and scale are applied later on the net's device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class DeferredCrops:
    """Cropped and flipped pixels, and the operands of the remaining arithmetic.

    The blob is ``(pixels - mean + shifts) * scale``, step by step in fp32. On any device this is
    bit for bit equal to :meth:`caffecompat.data.transforms.transform.Transform.apply`. Bytes take a
    quarter of the transfer of floats.

    Attributes:
        pixels: uint8, N x C x H x W.
        mean: float32, C x H x W, or broadcastable to it; None to skip the step.
        shifts: float32, N x C x 1 x 1; None to skip the step.
        scale: 1 to skip the step.
    """

    pixels: NDArray[np.uint8]
    mean: Floats | None
    shifts: Floats | None
    scale: float

    def floats(self) -> Floats:
        """The blob, computed on the CPU: float32, N x C x H x W."""
        blob = self.pixels.astype(np.float32)
        if self.mean is not None:
            blob -= self.mean
        if self.shifts is not None:
            blob += self.shifts
        if self.scale != 1:
            blob *= np.float32(self.scale)
        return blob
