"""HDF5Data: rows of HDF5 files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caffecompat.errors import FileProblem, ShapesUnknown
from caffecompat.layers._base import Message, Shape, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._missing_files import refuse_missing
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.sources.hdf5_rows import HDF5Reader
    from caffecompat.layers._base import Array


@register("HDF5Data")
class HDF5Data(Source):
    """Rows of HDF5 data sets; a top has the name of its data set in the files of the list.

    Tops (batch_size, ...). Pass i reads the rows from i * batch_size on, counted over all files; a
    batch may continue with the first row after the last. Data sets of any numeric type are
    converted to float. There is no transform, and ``transform_param`` is refused.
    Source: Caffe's HDF5Data layer.
    """

    batch_param = "hdf5_data_param"
    reads_shard = True

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import missing_hdf5_list

        missing = missing_hdf5_list(message)
        return [] if missing is None else [missing]

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.loader.open_readers import open_hdf5_reader

        if not message.HasField("transform_param"):  # the reader refuses transform_param
            self._refuse_missing(message)
        with errors_at(self.context.place):
            self.reader: HDF5Reader | None = open_hdf5_reader(message, self.context.options)
            self.shapes = self.reader.shapes()

    def _refuse_missing(self, message: Message) -> None:
        """Raises FileProblem where files are missing; a net for shapes cannot do without them."""
        c = self.context
        try:
            refuse_missing(message, c.phase, c.definition, c.path)
        except FileProblem as error:
            if not c.options.shapes_only:
                raise FileProblem(f"{c.place}: {error}") from error
            rows = message.hdf5_data_param.batch_size
            hint = " ".join(f"--shape {top}={rows}x1" for top in message.top)
            raise ShapesUnknown(
                f"{c.place}: the shapes of its tops are unknown",
                f"; state them ({hint}), or create the files: {error}",
            ) from error

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """The stated shapes must be complete and cover all tops: only the files have others."""
        rows = message.hdf5_data_param.batch_size
        unknown = [top for top in message.top if top not in stated]
        self.check(not unknown, f"state the shape of {', '.join(map(repr, unknown))} too")
        for top in message.top:
            self.check(
                stated[top][0] == rows,
                f"the stated shape of {top!r} is {format_shape(stated[top])}; "
                f"it must begin with the batch_size, {rows}",
            )
        self.reader = None
        self.shapes = [stated[top] for top in message.top]

    @property
    def records(self) -> int | None:
        return None if self.reader is None else self.reader.records

    def read(self, index: int) -> Sequence[Array]:
        self.check_opened(self.reader)
        assert self.reader is not None
        with errors_at(self.context.place):
            return self.reader.batch(index)
