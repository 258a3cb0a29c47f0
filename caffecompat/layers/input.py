"""Input: blobs whose values the user sets."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._source import Source


@register("Input")
class Input(Source):
    """Tops of the given shapes: one shape for all tops, or one for each.

    Source: Caffe's Input layer.
    """

    is_input = True
    filled_by_user = True

    @classmethod
    def batch_size(cls, message: Message) -> int | None:
        """The first extent of the first top; the user may set values with another extent."""
        shapes = message.input_param.shape
        return int(shapes[0].dim[0]) if shapes and shapes[0].dim else None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        shapes = [tuple(shape.dim) for shape in message.input_param.shape]
        tops = len(message.top)
        self.check(
            len(shapes) in (1, tops),
            f"it has {len(shapes)} shapes for {tops} tops; give one shape per top, or one for all",
        )
        for shape in shapes:
            self.check(
                all(extent > 0 for extent in shape),
                f"the shape {format_shape(shape)} has an extent below 1",
            )
            self.check_size(shape, "the input")
        self.shapes = shapes * tops if len(shapes) == 1 else shapes

    def read(self, index: int) -> None:
        return None
