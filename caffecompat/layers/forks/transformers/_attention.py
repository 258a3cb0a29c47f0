"""Causal self-attention over several heads, for the layer types that contain it."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, format_shape
from caffecompat.layers._counter_rng import threshold_of
from caffecompat.proto.schema import new

if TYPE_CHECKING:
    from torch import Tensor

    Drop = Callable[[Tensor], Tensor]

_DEVIATION = 0.02


def gaussian(deviation: float) -> Message:
    """The filler of a weight."""
    filler = new("FillerParameter")
    filler.type, filler.std = "gaussian", deviation
    return filler


class Transformer(Layer):
    """Settings and parameters that MyCaffe's attention and transformer blocks share.

    ``settings_of`` is the field of LayerParameter; its ``embed`` must be the last extent of the
    bottom (N, T, embed), and T at most ``block_size``.
    """

    in_place = False
    settings_of: str

    def read_settings(self, message: Message, bottom: tuple[int, ...]) -> None:
        p = getattr(message, self.settings_of)
        self.heads, self.embed, self.longest = int(p.heads), int(p.embed), int(p.block_size)
        for name in ("heads", "embed", "layers", "block_size"):
            self.check(getattr(p, name) > 0, f"{name} is 0, it must be positive")
        self.check(
            self.embed % self.heads == 0,
            f"embed is {self.embed}, it must be a multiple of heads, {self.heads}",
        )
        self.attention_ratio = float(p.attn_dropout)
        self.ratio = float(p.resid_dropout)
        for name in ("attn_dropout", "resid_dropout"):
            ratio = float(getattr(p, name))
            self.check(0 <= ratio < 1, f"{name} is {ratio:g}, it must be in [0, 1)")
        self.deviation = _DEVIATION
        self.last_deviation = _DEVIATION / sqrt(2 * p.layers)
        self.check_bottom(bottom)

    def check_bottom(self, shape: tuple[int, ...]) -> None:
        self.check(
            len(shape) == 3 and shape[2] == self.embed and shape[1] <= self.longest,
            f"the bottom is {format_shape(shape)}; expected N x T x {self.embed} (embed) with T at "
            f"most {self.longest} (block_size)",
        )

    def linear(self, name: str, outputs: int, inputs: int, deviation: float) -> None:
        """Declares the weight and the bias of a fully connected layer."""
        self.parameter(f"{name}_weight", (outputs, inputs), gaussian(deviation))
        self.parameter(f"{name}_bias", (outputs,), new("FillerParameter"))

    def drops(self, x: Tensor, count: int) -> list[Drop]:
        """Functions that drop values: the first those of attention, ``count`` others of the rest.

        All of them take their bits from one draw, so that no two values share theirs.
        """
        rows, steps, size = x.shape
        ratios = [self.attention_ratio] + [self.ratio] * count
        if not self.training or not any(ratios):
            return [_keep_all] * len(ratios)
        sizes = [self.heads * steps * steps] + [steps * size] * count
        bits = self.noise.bits(x.new_empty(rows, sum(sizes))).split(sizes, 1)
        return [_drop(part, ratio) for part, ratio in zip(bits, ratios, strict=True)]

    def attention(self, x: Tensor, blobs: list[Tensor], drops: list[Drop]) -> Tensor:
        """The projected attention of ``x`` (N, T, E), with the four parameters of attention."""
        import torch
        import torch.nn.functional as F

        rows, steps, size = x.shape
        joint = F.linear(x, blobs[0], blobs[1]).view(rows, steps, 3, self.heads, size // self.heads)
        query, key, value = joint.permute(2, 0, 3, 1, 4).unbind()
        scores = query @ key.transpose(-2, -1) / sqrt(size // self.heads)
        later = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        weights = drops[0](scores.masked_fill(later, float("-inf")).softmax(-1))
        joined = (weights @ value).transpose(1, 2).reshape(rows, steps, size)
        return drops[1](F.linear(joined, blobs[2], blobs[3]))

    def attention_products(self, shape: tuple[int, ...]) -> int:
        """Multiplications with weights, and of queries, keys and values."""
        rows, steps, size = shape
        return rows * steps * (4 * size * size + 2 * steps * size)


def _keep_all(x: Tensor) -> Tensor:
    return x


def _drop(bits: Tensor, ratio: float) -> Drop:
    if ratio == 0:
        return _keep_all

    def drop(x: Tensor) -> Tensor:
        kept = (bits < threshold_of(1 - ratio)).view(x.shape).to(x.dtype)
        return x * kept / (1 - ratio)

    return drop
