"""LayerNorm of MyCaffe: normalises each position, without parameters."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("LayerNorm", fork="MyCaffe")
class LayerNorm(Layer):
    """y = (x - mean) / sqrt(variance + ``epsilon``), over all axes but the first two.

    A bottom of two axes is normalised along the second one. The variance is that of the values
    themselves (divided by their number); epsilon is 1e-10 by default. No parameters. Bottom and
    top have one shape. Source: MyCaffe's LayerNorm layer.
    """

    in_place = False
    fork_fields = ("layer_norm_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.layer_norm_param
        if p.HasField("eps") or p.HasField("elementwise_affine"):
            return False
        return True if p.HasField("epsilon") or p.HasField("enable_cuda_impl") else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.eps = float(message.layer_norm_param.epsilon)
        self.check(self.eps >= 0, f"epsilon is {self.eps:g}, it must not be negative")
        self.check(len(bottoms[0]) > 1, "the bottom needs two axes or more")

    def forward(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        inside = x.shape[1 if x.dim() == 2 else 2 :]
        flat = x.reshape(-1, prod(inside))
        return F.layer_norm(flat, flat.shape[1:], eps=self.eps).view(x.shape)
