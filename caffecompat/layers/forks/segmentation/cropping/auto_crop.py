"""AutoCrop: a crop whose offset the net tells."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.segmentation.cropping._geometric_crop import GeometricCrop


@register("AutoCrop", fork="RCF")
class AutoCrop(GeometricCrop):
    """A crop without settings; see :class:`GeometricCrop`.

    Source: the AutoCrop layer of RCF, the first fully convolutional nets' Crop under a new name.
    """
