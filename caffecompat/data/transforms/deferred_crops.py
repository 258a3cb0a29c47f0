"""Crops as bytes, whose arithmetic is left to the device that they are on their way to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Crops:
    """Pixels, cut and flipped, and what is still to be done to them.

    The blob is ``(pixels - mean + shifts) * scale``, in fp32 and step by step, which gives the
    numbers of :meth:`caffecompat.data.transforms.transform.Transform.apply` bit for bit wherever it
    is computed. Bytes are a quarter of what would travel otherwise.

    Attributes:
        pixels: uint8, N x C x H x W.
        mean: float32, C x H x W or with extents of 1; None to leave the step out.
        shifts: float32, N x C x 1 x 1; None to leave the step out.
        scale: 1 to leave the step out.
    """

    pixels: NDArray[np.uint8]
    mean: Floats | None
    shifts: Floats | None
    scale: float

    def floats(self) -> Floats:
        """The blob, computed here."""
        blob = self.pixels.astype(np.float32)
        if self.mean is not None:
            blob -= self.mean
        if self.shifts is not None:
            blob += self.shifts
        if self.scale != 1:
            blob *= np.float32(self.scale)
        return blob
