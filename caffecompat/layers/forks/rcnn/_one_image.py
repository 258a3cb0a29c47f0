"""What layers of region-based detectors have in common that take one image."""

from __future__ import annotations

from caffecompat.layers._base import Layer


class OneImage(Layer):
    """A layer without gradients that takes one image, not a batch."""

    in_place = False
    differentiable = (False,)
    batch_coupling = "takes one image, not a batch"
