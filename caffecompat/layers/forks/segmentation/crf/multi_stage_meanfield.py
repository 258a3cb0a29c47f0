"""MultiStageMeanfield: the CRF of CRF-RNN."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.segmentation.crf._meanfield import Meanfield


@register("MultiStageMeanfield", fork="CRF-RNN")
class MultiStageMeanfield(Meanfield):
    """Mean field inference in a fully connected CRF; see :class:`Meanfield`."""
