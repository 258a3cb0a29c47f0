"""Normalize of SSD and ParseNet: each position or image divided by its L2 norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import CHANNEL_AXIS, Layer, Message, Shape, format_shape, register
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.proto import schema

if TYPE_CHECKING:
    from torch import Tensor

_KNOWN = ("across_spatial", "scale_filler", "channel_shared", "eps")


@register("Normalize", fork="SSD, ParseNet")
class Normalize(Layer):
    """y = scale * x / sqrt(sum(x^2) + eps).

    The sum is over the channels of each position, or with ``across_spatial`` over the whole image.
    The parameter ``scale`` is one number, or with ``channel_shared: false`` one for each channel.
    Bottom and top: (N, C, ...), at least 2 axes. Source: SSD's Normalize layer.
    """

    parameters = ("scale",)
    keeps_shape = True
    param_fields = ("norm_param",)
    fork_fields = ("norm_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        if message.HasField("normalize_param") or len(message.top) > 1:
            return False
        return True if message.HasField("norm_param") else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.norm_param
        refuse_other_fields(self, "norm_param", p, _KNOWN)
        shape = bottoms[0]
        self.check(
            len(shape) >= 2,
            f"the bottom is {format_shape(shape)}, expected at least 2 axes (N, C, ...)",
        )
        self.across_spatial = bool(p.across_spatial)
        self.eps = float(p.eps)
        filler = p.scale_filler
        if not p.HasField("scale_filler"):
            filler = schema.new("FillerParameter")
            filler.value = 1.0
        channels = () if p.channel_shared else (shape[CHANNEL_AXIS],)
        self.parameter("scale", channels, filler)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        axes = list(range(1, x.dim())) if self.across_spatial else [CHANNEL_AXIS]
        norm = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        if scale.dim():
            scale = scale.reshape(-1, *[1] * (x.dim() - 2))
        return x / norm * scale
