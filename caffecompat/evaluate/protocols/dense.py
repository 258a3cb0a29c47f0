"""The fully convolutional net on the whole image (VGG paper, Sect. 3.2)."""

from __future__ import annotations

from caffecompat.evaluate.protocol import Protocol, protocols


@protocols.register("dense")
class Dense(Protocol):
    """The whole, uncropped image; fully connected layers work as convolutions."""

    dense = True
