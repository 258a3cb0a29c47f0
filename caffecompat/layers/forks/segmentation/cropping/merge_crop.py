"""MergeCrop: a map joined with the middle of a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("MergeCrop", fork="Greentea, U-Net")
class MergeCrop(Layer):
    """The channels of a, then those of the middle of b; or with ``operation: ADD`` their sum.

    Bottoms a (N, C, ...) and b (N, C', ...), b at least as large; (b - a) / 2 elements, rounded
    down, are cut off before the middle. The top has a's spatial extents. ``forward`` and
    ``backward`` have up to one value for each bottom: without forward a bottom counts as 0, without
    backward it gets no gradient; by default both go forward, and a alone gets a gradient.
    Source: the MergeCrop layer of naibaf7's Caffe.
    """

    bottoms = exactly(2)
    in_place = False
    fork_fields = ("mergecrop_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.mergecrop_param
        self.check(
            len(p.forward) < 3 and len(p.backward) < 3,
            "forward and backward have one value for each of the two bottoms",
        )
        self.passes = (*p.forward, *(True, True)[len(p.forward) :])
        self.learns = (*p.backward, *(True, False)[len(p.backward) :])
        self.add = p.operation == p.ADD

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        import torch

        self.check(
            a.dim() > 2
            and a.dim() == b.dim()
            and a.shape[0] == b.shape[0]
            and all(m <= n for m, n in zip(a.shape[2:], b.shape[2:], strict=True))
            and (not self.add or a.shape[1] == b.shape[1]),
            f"its bottoms are {format_shape(a.shape)} and {format_shape(b.shape)}; the second one "
            "must be as large or larger, with the same batch size"
            + (" and channels" if self.add else ""),
        )
        for axis in range(2, a.dim()):
            extent = a.shape[axis]
            b = b.narrow(axis, (b.shape[axis] - extent) // 2, extent)
        parts = [
            (x if learns else x.detach()) if passes else _zero_with_gradient(x, learns)
            for x, passes, learns in zip((a, b), self.passes, self.learns, strict=True)
        ]
        return parts[0] + parts[1] if self.add else torch.cat(parts, 1)


def _zero_with_gradient(x: Tensor, learns: bool) -> Tensor:
    """Zeros in the shape of ``x``, whose gradient ``x`` gets if ``learns``."""
    return x - x.detach() if learns else x.detach() * 0
