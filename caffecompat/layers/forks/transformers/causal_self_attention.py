"""CausalSelfAttention: each position reads those up to itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.transformers._attention import Transformer

if TYPE_CHECKING:
    from torch import Tensor


@register("CausalSelfAttention", fork="MyCaffe")
class CausalSelfAttention(Transformer):
    """Self-attention of ``heads`` heads over (N, T, ``embed``), then a projection to embed.

    ``c_attn`` gives queries, keys and values in this order, 3 embed outputs; each head has
    embed / heads of each. Weights are softmax(q k / sqrt(embed / heads)) over the positions up to
    the own one. ``c_proj`` projects the heads, side by side. In TRAIN weights are dropped with
    probability ``attn_dropout``, results with ``resid_dropout``.

    Parameters: weight (3 embed, embed) and bias of c_attn, weight (embed, embed) and bias of
    c_proj. Weights begin as gaussian with deviation 0.02, that of c_proj with
    0.02 / sqrt(2 ``layers``); biases as 0. T is at most ``block_size``.
    Source: MyCaffe's CausalSelfAttention layer.
    """

    parameters = ("c_attn_weight", "c_attn_bias", "c_proj_weight", "c_proj_bias")
    fork_fields = ("causal_self_attention_param",)
    settings_of = "causal_self_attention_param"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_settings(message, bottoms[0])
        self.linear("c_attn", 3 * self.embed, self.embed, self.deviation)
        self.linear("c_proj", self.embed, self.embed, self.last_deviation)

    def forward(self, x: Tensor, **parameters: Tensor) -> Tensor:
        self.check_bottom(tuple(x.shape))
        blobs = [parameters[name] for name in self.parameters]
        return self.attention(x, blobs, self.drops(x, 1))

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return self.attention_products(bottoms[0])
