"""BN of SegNet: two blobs, scale and shift; its statistics are always those of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers.forks.segmentation._bn_param import check_bn

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-9
_SETTINGS = frozenset({"scale_filler", "shift_filler", "bn_mode"})


@register("BN", fork="SegNet, ENet")
class SegNetBN(Layer):
    """y = scale (x - mean) / sqrt(variance + 1e-9) + shift per channel (axis 1).

    Bottom and top (N, C, ...); scale and shift are (1, C, 1, 1). With ``bn_mode: LEARN`` mean and
    variance are those of the batch, in TEST too; the variance is divided by the number of values.
    A second and a third top (1, C, 1, 1) hold mean and variance. With ``bn_mode: INFERENCE``
    y = scale x + shift, into which the statistics of a training have been folded.
    Source: SegNet's BN layer.
    """

    tops = between(1, 3)
    parameters = ("scale", "shift")
    fork_fields = ("bn_param",)
    pointwise = True

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        """Told by its settings, by the tops, or by the number of blobs and of ``param``."""
        p = message.bn_param
        if any(p.HasField(name) for name in ("slope_filler", "momentum", "frozen", "eps")):
            return False
        if any(p.HasField(name) for name in _SETTINGS) or len(message.top) > 1:
            return True
        if len(message.param) > 2 or len(message.blobs) > 2:
            return False
        return True if len(message.blobs) == 2 else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.bn_param
        check_bn(self, p, _SETTINGS, bottoms[0])
        self.count = len(message.top)
        self.learn = p.bn_mode == p.LEARN
        self.check(
            self.learn or self.count == 1, "with bn_mode: INFERENCE it has no mean and variance"
        )
        if self.learn:
            self.batch_coupling = "takes its statistics from the whole batch"
        shape = (1, bottoms[0][1], 1, 1)
        self.parameter("scale", shape, p.scale_filler)
        self.parameter("shift", shape, p.shift_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        statistics = [(1, bottoms[0][1], 1, 1)] * 2
        return [bottoms[0], *statistics][: self.count]

    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        self.check(
            x.dim() > 1 and x.shape[1] == scale.shape[1],
            f"the scale has {scale.shape[1]} channels, but the bottom is {format_shape(x.shape)}",
        )
        along_channels = (1, -1, *(1,) * (x.dim() - 2))
        scale, shift = scale.view(along_channels), shift.view(along_channels)
        if not self.learn:
            return x * scale + shift
        axes = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        y = (x - mean) * (variance + EPS).rsqrt() * scale + shift
        if self.count == 1:
            return y
        statistics = (part.detach().reshape(1, -1, 1, 1) for part in (mean, variance))
        return (y, *statistics)[: self.count]
