"""MULTI_STAGE_MEANFIELD: the CRF of CRF-RNN in V1 definitions."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.segmentation.crf._meanfield import Meanfield


@register("MULTI_STAGE_MEANFIELD", fork="CRF-RNN")
class MultiStageMeanfieldV1(Meanfield):
    """Mean field inference in a fully connected CRF, a V1 type; see :class:`Meanfield`."""
