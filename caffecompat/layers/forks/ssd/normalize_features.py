"""Normalize of NormFace: each position divided by its norm, without parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import CHANNEL_AXIS, Layer, Message, Shape, between, register
from caffecompat.layers.forks._other_fields import refuse_other_fields

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-6


@register("Normalize", fork="NormFace, AMSoftmax")
class NormalizeFeatures(Layer):
    """The channels of each position divided by their norm.

    ``normalize_type`` L2: sqrt(sum(x^2) + 1e-6); L1: sum(|x|) + 1e-6. Bottom: up to 4 axes; the top
    has 4, those that are missing have extent 1. A second top (N, 1, H, W) holds the norm; it passes
    a gradient on only with ``bp_norm``. ``fix_gradient`` has no effect.
    Source: NormFace's Normalize layer.
    """

    tops = between(1, 2)
    fork_fields = ("normalize_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        if message.HasField("norm_param"):
            return False
        return True if message.HasField("normalize_param") or len(message.top) > 1 else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.normalize_param
        known = ("normalize_type", "fix_gradient", "bp_norm")
        refuse_other_fields(self, "normalize_param", p, known)
        self.check(
            len(bottoms[0]) <= 4, f"the bottom has {len(bottoms[0])} axes, at most 4 allowed"
        )
        self.check(
            p.normalize_type in ("L1", "L2"),
            f"normalize_param: normalize_type is {p.normalize_type!r}, expected 'L1' or 'L2'",
        )
        self.squares = p.normalize_type == "L2"
        self.learns_from_norm = bool(p.bp_norm)
        self.two_tops = len(message.top) > 1

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = x.reshape(*x.shape, *[1] * (4 - x.dim()))
        if self.squares:
            norm = (x.square().sum(CHANNEL_AXIS, keepdim=True) + _EPS).sqrt()
        else:
            norm = x.abs().sum(CHANNEL_AXIS, keepdim=True) + _EPS
        if not self.two_tops:
            return x / norm
        return x / norm, norm if self.learns_from_norm else norm.detach()
