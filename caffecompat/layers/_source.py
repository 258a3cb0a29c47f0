"""The base class of data and input layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Layer, Message, Shape, at_least, catalogue, exactly

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.crop_form import CropForm
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array


class Source(Layer):
    """A layer without bottoms that supplies the net with data.

    Sources are not part of the executable graph: before each pass the net calls :meth:`read`.
    :meth:`setup` must set :attr:`shapes`.

    Attributes:
        shapes: the shapes of the tops, set by :meth:`setup`; with ``reads_shard`` those of this
            rank's rows.
        batch_param: the field of LayerParameter whose ``batch_size`` is the number of rows of a
            batch, e.g. ``"data_param"``; empty if there is no such field.
        reads_shard: :meth:`read` returns this rank's rows of a batch (``context.options.shard``),
            and the samples of all batches are numbered in one sequence. Otherwise it returns whole
            batches, which the net slices along the first axis, and another batch size would give
            other samples.
        is_input: the tops are inputs of the net; the user sets their values and :meth:`read`
            returns None.
        filled_by_user: there is nothing to read until the user has set values.
        crop_form: how pixels that :meth:`read_for_gpu` leaves as bytes should lie in memory, set
            by the net; None if it does not matter.
    """

    bottoms = exactly(0)
    tops = at_least(1)
    batch_param: ClassVar[str] = ""
    reads_shard: ClassVar[bool] = False
    is_input: ClassVar[bool] = False
    filled_by_user: ClassVar[bool] = False

    crop_form: CropForm | None = None
    shapes: list[Shape]

    @classmethod
    def batch_size(cls, message: Message) -> int | None:
        """The batch size in the LayerParameter, over all ranks; None if it has none."""
        if not cls.batch_param or not message.HasField(cls.batch_param):
            return None
        return int(getattr(message, cls.batch_param).batch_size)

    @classmethod
    def scale_batch(cls, message: Message, factor: Fraction) -> None:
        """Multiplies the batch size in the LayerParameter, if it has one, by ``factor``."""
        rows = cls.batch_size(message)
        if rows is not None and cls.batch_param:
            getattr(message, cls.batch_param).batch_size = int(rows * factor)

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        """The files that the LayerParameter names and that do not exist.

        Args:
            phase: ``"TRAIN"``, ``"TEST"``, or empty for a layer of both phases.
            definition: the layer's NetParameter.
        """
        return []

    @classmethod
    def assumed_image(cls, message: Message) -> str:
        """The top of images whose size is only assumed, since the definition does not tell it."""
        return ""

    @property
    def constant_tops(self) -> Sequence[int]:
        """Positions of tops that Caffe fills once, when the net is built, and not in each pass."""
        return ()

    @property
    def records(self) -> int | None:
        """The number of records in the source; None if it is unknown."""
        return None

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """Replaces :meth:`setup` in a net with ``shapes_only`` whose user states shapes.

        Args:
            stated: shapes by top name.
        """
        self.setup(message, ())
        self.shapes = [
            stated.get(top, shape) for top, shape in zip(message.top, self.shapes, strict=True)
        ]

    def read(self, index: int) -> Sequence[Array] | None:
        """The tops of pass ``index`` (from 0), a pure function of seed and index.

        None keeps the values that the user has set.
        """
        raise NotImplementedError

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops] | None:
        """:meth:`read` for a net on a GPU, which may compute the last steps of the transform."""
        return self.read(index)

    def check_opened(self, reader: object | None) -> None:
        """Refuses a pass where there is no reader, because the net is for shapes alone."""
        self.check(
            reader is not None,
            "the net was built with shapes_only=True and reads no data; build it without "
            "shapes_only to run it",
        )

    def close(self) -> None:
        """Stops threads and closes files."""


def source_class(message: Message) -> type[Source] | None:
    """The class of a LayerParameter if it is a source; None for other and for unknown types."""
    for layer_class in catalogue.definitions(message.type):
        if issubclass(layer_class, Source) and layer_class.fits(message) is not False:
            return layer_class
    return None
