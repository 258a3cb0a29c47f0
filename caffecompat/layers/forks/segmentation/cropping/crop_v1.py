"""CROP: the crop of the first fully convolutional nets."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.segmentation.cropping._geometric_crop import GeometricCrop


@register("CROP", fork="FCN, HED, CRF-RNN")
class Crop(GeometricCrop):
    """A crop without settings; see :class:`GeometricCrop`.

    Source: the V1 layer CROP of longjon's Caffe for fully convolutional nets.
    """
