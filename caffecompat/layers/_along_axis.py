"""What Concat and Slice have in common: blobs that are put together or cut along one axis."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import ALONG_BATCH, CHANNEL_AXIS, Layer, Message, Shape
from caffecompat.layers._receptive_field import ReceptiveField


class AlongAxis(Layer):
    """Base of the types that work along one axis and leave the others as they are.

    Attributes:
        along: the axis in the shape that the net is built with, counted from the first.
    """

    in_place = False
    along: int

    def read_axis(self, param: Message, old_name: str, bottom: Shape) -> None:
        """Sets :attr:`along` from the layer's own settings.

        Args:
            param: the settings, with the field ``axis``.
            old_name: another field for the axis, of older definitions; negative numbers are not
                allowed in it.
            bottom: the shape of the first bottom.

        Raises:
            LayerError: both fields are given, or the bottom has no such axis.
        """
        old = param.HasField(old_name)
        self.check(not (old and param.HasField("axis")), f"axis and {old_name} exclude each other")
        self._name = old_name if old else "axis"
        self._given = getattr(param, self._name)
        self.along = self.along_in(bottom)
        self.batch_coupling = ALONG_BATCH if self.along == 0 else None

    def along_in(self, shape: Sequence[int]) -> int:
        """The axis in a bottom of this shape.

        A negative axis is another one after an input was resized to another number of axes.
        """
        return self.axis(self._given, shape, self._name)

    def receptive_field(self, field: ReceptiveField) -> ReceptiveField | str:
        return field if self.along == CHANNEL_AXIS else super().receptive_field(field)
