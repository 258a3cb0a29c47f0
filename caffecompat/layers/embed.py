"""Embed: a row of a table for each index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, register
from caffecompat.layers._class_labels import Indices

if TYPE_CHECKING:
    from torch import Tensor


@register("Embed")
class Embed(Layer):
    """y = W[x] + b.

    Bottom: indices of any shape, truncated toward zero. Top: the same shape, with ``num_output``
    as an additional last axis. The weight is (input_dim, num_output), the bias (num_output,). The
    indices get no gradient.
    Source: Caffe's Embed layer.
    """

    parameters = ("weight", "bias")
    in_place = False
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.embed_param
        for name in ("num_output", "input_dim"):
            self.check(getattr(p, name) > 0, f"{name} is missing or 0, it must be positive")
        self.rows = p.input_dim
        self.indices = Indices(self.rows, "rows of its table (input_dim)", 0)
        self.parameter("weight", (p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.parameter("bias", (p.num_output,), p.bias_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [(*bottoms[0], self.specs[0].shape[1])]

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        import torch.nn.functional as F

        sentence = f"an index lies outside 0 to {self.rows - 1} (input_dim {self.rows})"
        with explaining_bad_index(self, sentence):
            y = F.embedding(x.detach().long(), weight)
        return y if bias is None else y + bias
