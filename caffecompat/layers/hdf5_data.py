"""HDF5Data: rows of HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, Source, format_shape, register
from caffecompat.layers._batch_source import errors_at

if TYPE_CHECKING:
    from caffecompat.layers._base import Array


@register("HDF5Data")
class HDF5Data(Source):
    """One top per data set: each top's name is that of a data set in the files of the list.

    Tops (batch_size, ...). Pass i holds the rows i * batch_size and following of all files, which
    wrap around in the middle of a batch if need be. Data sets of any numeric type become float;
    nothing is transformed, ``transform_param`` is refused. Source: Caffe's HDF5Data layer.
    """

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.advice import refuse_missing
        from caffecompat.data.loader.open import open_hdf5_reader

        rows = message.hdf5_data_param.batch_size
        hint = " ".join(f"--shape {top}={rows}x1" for top in message.top)
        unknown = f": the shapes of its tops are unknown; state them ({hint}), or make the files"
        with errors_at(self.context.place + (unknown if self.context.options.shapes_only else "")):
            if not message.HasField("transform_param"):  # which the reader refuses
                refuse_missing(message, self.context.phase, self.context.definition)
        with errors_at(self.context.place):
            self.reader = open_hdf5_reader(message, self.context.options)
            self.shapes = self.reader.shapes()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """Whole shapes, of all tops: the files may be missing, and nothing else knows them."""
        rows = message.hdf5_data_param.batch_size
        unknown = [top for top in message.top if top not in stated]
        self.check(not unknown, f"state the shape of {', '.join(map(repr, unknown))} too")
        for top in message.top:
            self.check(
                stated[top][0] == rows,
                f"the stated shape of {top!r} is {format_shape(stated[top])}; "
                f"it begins with the batch_size, {rows}",
            )
        self.shapes = [stated[top] for top in message.top]

    def read(self, index: int) -> Sequence[Array]:
        with errors_at(self.context.place):
            return self.reader.batch(index)
