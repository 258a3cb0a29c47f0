"""UpsampleDarknet: each element repeated, under another name."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.segmentation.resizing.upsample_nearest import NearestUpsample


@register("UpsampleDarknet", fork="Synopsys")
class UpsampleDarknet(NearestUpsample):
    """Each element of the bottom (..., H, W), repeated ``stride`` times along both axes.

    The name of YOLOv3's Upsample layer in a Caffe whose Upsample takes a pooling mask.
    Source: Synopsys' UpsampleDarknet layer.
    """

    fork_fields = ("upsample_darknet_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.repeat(message.upsample_darknet_param.stride, "stride")
