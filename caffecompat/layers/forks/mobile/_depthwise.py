"""Convolution in which each channel has its own kernel."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._convolution_geometry import read_geometry
from caffecompat.layers.convolution import Convolution


class DepthwiseBase(Convolution):
    """A convolution whose group is the number of channels unless the definition states another."""

    param_fields = ("convolution_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.convolution_param
        if not p.HasField("group"):
            channels = bottoms[0][read_geometry(self, p, bottoms[0]).channel_axis]
            grouped = type(message)()
            grouped.CopyFrom(message)
            grouped.convolution_param.group = channels
            message = grouped
        super().setup(message, bottoms)
