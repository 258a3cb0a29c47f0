"""HDF5Data: rows of HDF5 files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers.base import Message, Shape, Source, register
from caffecompat.layers.reading import errors_at

if TYPE_CHECKING:
    from caffecompat.layers.base import Array


@register("HDF5Data")
class HDF5Data(Source):
    """One top per data set: each top's name is that of a data set in the files of the list.

    Tops (batch_size, ...). Pass i holds the rows i * batch_size and following of all files, which
    wrap around in the middle of a batch if need be. Data sets of any numeric type become float;
    nothing is transformed, ``transform_param`` is refused. Source: Caffe's HDF5Data layer.
    """

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.advice import refuse_missing
        from caffecompat.data.hdf5_rows import open_hdf5_reader

        with errors_at(self.context.place):
            if not message.HasField("transform_param"):  # which the reader refuses
                refuse_missing(message, self.context.phase, self.context.definition)
            self.reader = open_hdf5_reader(
                message, self.context.seed, self.context.rank, self.context.ranks
            )
            self.shapes = self.reader.shapes()

    def read(self, index: int) -> Sequence[Array]:
        with errors_at(self.context.place):
            return self.reader.batch(index)
