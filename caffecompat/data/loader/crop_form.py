"""How crops of 8-bit images lie in memory before they are copied to a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffecompat.data.loader.buffer_pool import Allocate


@dataclass(frozen=True)
class CropForm:
    """The form of the pixels of deferred crops.

    Attributes:
        channels_last: (N, C, H, W) with the channels of a pixel side by side, as decoders give
            them, so that rows are copied as they are.
        allocate: makes the memory, such as page-locked memory.
    """

    channels_last: bool = False
    allocate: Allocate = np.empty
