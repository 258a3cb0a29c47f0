"""RepMat: a blob repeated along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("RepMat", fork="SDS, hypercolumns")
class RepMat(Layer):
    """(N, C, H, W), missing axes 1, as a whole ``rep_n``, ``rep_c``, ``rep_h``, ``rep_w`` times.

    Source: the repmat_layer of the Caffe of hypercolumns.
    """

    in_place = False
    fork_fields = ("repmat_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.repmat_param
        self.times = (p.rep_n, p.rep_c, p.rep_h, p.rep_w)
        self.check(min(self.times) > 0, "repmat_param: a number of times is 0")
        self.batch_coupling = "repeats the whole batch" if p.rep_n > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        self.check(
            0 < x.dim() <= 4,
            f"the bottom is {format_shape(x.shape)}, expected 1 to 4 axes",
        )
        return x.reshape(*x.shape, *(1,) * (4 - x.dim())).repeat(*self.times)
