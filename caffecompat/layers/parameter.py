"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("Parameter")
class Parameter(Layer):
    """The top is the parameter, with the shape of ``parameter_param``; it is 0 initially.

    The field ``blob_filler`` of a fork gives it other values. Caffe's backward pass overwrites the
    gradient, this one adds to it; the results differ only with ``iter_size`` above 1.
    Source: Caffe's Parameter layer.
    """

    bottoms = exactly(0)
    parameters = ("value",)
    fork_fields = ("parameter_param.blob_filler",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        shape = tuple(message.parameter_param.shape.dim)
        self.check(
            all(extent > 0 for extent in shape),
            f"shape is {format_shape(shape)}, every extent must be positive",
        )
        self.parameter("value", shape, message.parameter_param.blob_filler)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return [self.specs[0].shape]

    def forward(self, *, value: Tensor) -> Tensor:
        return value.view_as(value)
