"""The contract of layers that bring data into a net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Layer, Message, Shape, at_least, catalogue, exactly

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array


class Source(Layer):
    """A layer without bottoms that brings data into the net.

    Sources stand outside the executable graph: before each pass the net asks them for their
    tops. :meth:`setup` must set :attr:`shapes`.

    Attributes:
        shapes: of the tops, set by :meth:`setup`; of this rank's rows where ``reads_shard``.
        batch_param: the field of LayerParameter whose ``batch_size`` is the number of rows of a
            batch, e.g. ``"data_param"``; empty where it stands elsewhere or nowhere.
        reads_shard: the samples of all batches are numbered in one sequence, and :meth:`read`
            gives the rows that are this rank's part of a batch (``context.options.shard``).
            Else it gives whole batches, which the net cuts along the first
            axis, and smaller batches would not hold the same samples.
        is_input: the tops are inputs of the net: its user gives their values, :meth:`read` none.
        filled_by_user: there is nothing to read before the net's user has given values.
    """

    bottoms = exactly(0)
    tops = at_least(1)
    batch_param: ClassVar[str] = ""
    reads_shard: ClassVar[bool] = False
    is_input: ClassVar[bool] = False
    filled_by_user: ClassVar[bool] = False

    shapes: list[Shape]

    @classmethod
    def batch_size(cls, message: Message) -> int | None:
        """Rows of a batch of all ranks together by the LayerParameter; None if it has none."""
        if not cls.batch_param or not message.HasField(cls.batch_param):
            return None
        return int(getattr(message, cls.batch_param).batch_size)

    @classmethod
    def scale_batch(cls, message: Message, factor: Fraction) -> None:
        """Multiplies the batch size in the LayerParameter, and does nothing if it has none."""
        rows = cls.batch_size(message)
        if rows is not None and cls.batch_param:
            getattr(message, cls.batch_param).batch_size = int(rows * factor)

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        """The files that the LayerParameter names and that are not there.

        Args:
            phase: ``"TRAIN"``, ``"TEST"``, or empty for a layer of both.
            definition: the NetParameter that the layer is in.
        """
        return []

    @property
    def records(self) -> int | None:
        """How many records there are to read; None where nobody knows."""
        return None

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """Takes the place of :meth:`setup` in a net built for its shapes whose user states some.

        Args:
            stated: shapes by name of the top.
        """
        self.setup(message, ())
        self.shapes = [
            stated.get(top, shape) for top, shape in zip(message.top, self.shapes, strict=True)
        ]

    def read(self, index: int) -> Sequence[Array] | None:
        """The tops of pass ``index`` (counted from 0), a pure function of seed and index.

        None keeps what the net's user put into the input blobs.
        """
        raise NotImplementedError

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops] | None:
        """The same for a net on a GPU, which may do the last of the work itself."""
        return self.read(index)

    def close(self) -> None:
        """Stops threads and closes files."""


def source_class(type_name: str) -> type[Source] | None:
    """The class of a layer type that is a source; None for other and for unknown types."""
    if type_name not in catalogue:
        return None
    layer_class = catalogue.find(type_name)
    return layer_class if issubclass(layer_class, Source) else None
