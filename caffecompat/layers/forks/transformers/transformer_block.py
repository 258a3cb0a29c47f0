"""TransformerBlock: attention and two fully connected layers, with residuals."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.transformers._attention import Transformer
from caffecompat.layers.forks.transformers.gelu import gelu

if TYPE_CHECKING:
    from torch import Tensor

# MyCaffe's layer normalisation inside the block has the default eps.
_EPS = 1e-10
_WIDER = 4


@register("TransformerBlock", fork="MyCaffe")
class TransformerBlock(Transformer):
    """y = x + attention(norm(x)), then y + proj(activation(fc(norm(y)))); (N, T, ``embed``).

    The attention is that of CausalSelfAttention, ``norm`` that of LayerNorm without parameters and
    with eps 1e-10. ``fc`` has 4 embed outputs, ``proj`` embed. ``activation`` is RELU, GELU or
    GELU_BERT; see Gelu. In TRAIN the values of ``proj`` are dropped with probability
    ``resid_dropout``, too.

    Parameters: the four of CausalSelfAttention, then weight (4 embed, embed) and bias of fc, weight
    (embed, 4 embed) and bias of proj. Weights begin as gaussian with deviation 0.02, those of
    c_proj and proj with 0.02 / sqrt(2 ``layers``), biases as 0. The ``block_type`` of encoders and
    decoders, whose layers have masks as further bottoms, is refused.
    Source: MyCaffe's TransformerBlock layer.
    """

    parameters = (
        *("c_attn_weight", "c_attn_bias", "c_proj_weight", "c_proj_bias"),
        *("fc_weight", "fc_bias", "proj_weight", "proj_bias"),
    )
    fork_fields = ("transformer_block_param",)
    settings_of = "transformer_block_param"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.transformer_block_param
        kind = p.BlockType.Name(p.block_type)
        self.check(
            kind == "CAUSAL_SELF_ATTENTION",
            f"block_type {kind} is not supported; only CAUSAL_SELF_ATTENTION is",
        )
        self.activation = p.Activation.Name(p.activation)
        self.read_settings(message, bottoms[0])
        self.linear("c_attn", 3 * self.embed, self.embed, self.deviation)
        self.linear("c_proj", self.embed, self.embed, self.last_deviation)
        self.linear("fc", _WIDER * self.embed, self.embed, self.deviation)
        self.linear("proj", self.embed, _WIDER * self.embed, self.last_deviation)

    def forward(self, x: Tensor, **parameters: Tensor) -> Tensor:
        import torch.nn.functional as F

        self.check_bottom(tuple(x.shape))
        blobs = [parameters[name] for name in self.parameters]
        drops = self.drops(x, 2)
        x = x + self.attention(self._norm(x), blobs[:4], drops)
        wide = F.linear(self._norm(x), blobs[4], blobs[5])
        wide = wide.relu() if self.activation == "RELU" else gelu(wide, self.activation != "GELU")
        return x + drops[2](F.linear(wide, blobs[6], blobs[7]))

    def _norm(self, x: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.layer_norm(x, (self.embed,), eps=_EPS)

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        wide = 2 * _WIDER * self.embed * prod(bottoms[0])
        return self.attention_products(bottoms[0]) + wide
