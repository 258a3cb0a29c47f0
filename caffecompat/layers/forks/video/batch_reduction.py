"""BatchReduction: sums, means and means of the largest along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("BatchReduction", fork="action recognition")
class BatchReduction(Layer):
    """SUM, MEAN or TOPK (the mean of the ``k`` largest) of groups along ``axis``.

    Each ``level`` n is a group of n * n elements, in their order; the top has the groups along
    ``axis``. Without levels, or with one that is 1, the whole axis is reduced and left out. With
    ``pos`` axes ``axis`` and ``axis`` + 1, of one length, are reduced together: only elements with
    equal indices count. ``coeff`` is not read, as in the original, which has neither ASUM nor
    SUMSQ, nor TOPK with several levels. Source: the Caffe of Temporal Segment Networks.
    """

    in_place = False
    fork_fields = ("batch_reduction_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p, r = message.batch_reduction_param, message.batch_reduction_param.reduction_param
        self.operation, self.k = r.ReductionOp.Name(r.operation), r.k
        self.levels = list(p.level) or [1]
        self.pos = p.pos
        self.first = self.axis(r.axis, bottoms[0])
        self.check(
            self.operation in ("SUM", "MEAN", "TOPK"),
            f"operation is {self.operation}; SUM, MEAN and TOPK are supported",
        )
        self.check(min(self.levels) > 0, "each level must be at least 1")
        several = len(self.levels) > 1
        self.check(not (several and self.pos), "pos works with one level only")
        self.check(
            self.operation != "TOPK" or not (several or self.pos),
            "TOPK works with one level only, and without pos",
        )
        self.check(self.operation != "TOPK" or self.k > 0, f"k is {self.k}, it must be at least 1")

    def forward(self, x: Tensor) -> Tensor:
        import torch

        first = self.first
        if self.pos:
            self.check(
                x.dim() > first + 1 and x.shape[first] == x.shape[first + 1],
                f"pos needs equal axes {first} and {first + 1}, the bottom is "
                f"{format_shape(x.shape)}",
            )
            x = x.diagonal(0, first, first + 1).movedim(-1, first)
        whole = self.levels == [1]
        sizes = [x.shape[first]] if whole else [level * level for level in self.levels]
        self.check(
            sum(sizes) == x.shape[first],
            f"the levels need {sum(sizes)} elements along axis {first}, the bottom is "
            f"{format_shape(x.shape)}",
        )
        parts = [self._reduced(part) for part in x.split(sizes, first)]
        return parts[0] if whole else torch.stack(parts, first)

    def _reduced(self, x: Tensor) -> Tensor:
        if self.operation == "TOPK":
            self.check(
                self.k <= x.shape[self.first],
                f"k is {self.k}, but axis {self.first} has {x.shape[self.first]} elements",
            )
            return x.topk(self.k, self.first).values.mean(self.first)
        return x.sum(self.first) if self.operation == "SUM" else x.mean(self.first)
