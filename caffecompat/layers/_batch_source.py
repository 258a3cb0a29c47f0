"""What sources share that read batches ahead: the reader's life, errors that say whose it was."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.layers._base import Message, Shape, between, format_shape
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    from caffecompat.data.loader.batch import Batch
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Puts ``place`` in front of the message of an error about files or records."""
    try:
        yield
    except (FileProblem, FormatError, DataError) as error:
        raise type(error)(f"{place}: {error}") from error


class BatchSource(Source):
    """A source of images, and perhaps labels, read ahead in background threads.

    Source: :class:`caffecompat.data.loader.prefetch.BatchReader`.

    Tops: (rows, C, H, W) and (rows,). A subclass says which file its definition names, how the
    reader is opened, and what shape the definition alone promises.
    """

    param_fields = ("transform_param",)
    tops = between(1, 2)
    reads_shard = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.reader: BatchReader | None = None
        self.count = len(message.top)
        if self.context.options.shapes_only and self._lacks_files(message):
            image = self.promised_shape(message)
        else:
            with errors_at(self.context.place):
                self.refuse_missing(message)
                self.reader = self.open(message)
                image = self.reader.shape()
        self.shapes = [image, image[:1]][: self.count]
        if self.context.options.shapes_only:
            self.close()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """Three extents are those of an image: channels, height, width."""
        self.reader, self.count = None, len(message.top)
        name = message.top[0]
        if name not in stated:
            self.setup(message, ())
            image = self.shapes[0]
        else:
            image = stated[name]
            if len(image) == 3:
                image = (self.rows(message), *image)
            self.check(
                len(image) == 4,
                f"the stated shape of {name!r} is {format_shape(image)}; state channels x height x "
                "width, or the batch size before them",
            )
        labels = [stated.get(top, image[:1]) for top in message.top[1:]]
        self.shapes = [image, *labels][: self.count]

    def refuse_missing(self, message: Message) -> None:
        """Raises FileProblem, with the commands that help, if a file is not there."""
        from caffecompat.layers._missing_files import refuse_missing

        refuse_missing(message, self.context.phase, self.context.definition)

    def unknown_shape(self, message: Message, unless: str) -> NoReturn:
        """Raises for files that are missing and a definition that does not stand in for them."""
        with errors_at(
            f"{self.context.place}: the shape of its images is unknown: there are no files, and "
            f"{unless}; state it with --shape {message.top[0]}=3x224x224, or make the files"
        ):
            self.refuse_missing(message)
        raise AssertionError("only called where a file is missing")

    def _lacks_files(self, message: Message) -> bool:
        try:
            self.refuse_missing(message)
        except FileProblem:
            return True
        return not os.path.exists(self.path(message))

    def path(self, message: Message) -> str:
        """The database or list that the definition names."""
        raise NotImplementedError

    def open(self, message: Message) -> BatchReader:
        """The reader of this rank's rows."""
        raise NotImplementedError

    def promised_shape(self, message: Message) -> Shape:
        """The shape of a batch by the definition alone, where the file is missing.

        Raises:
            DataError: the definition does not say it.
        """
        raise NotImplementedError

    @property
    def records(self) -> int | None:
        return None if self.reader is None else self.reader.records

    def rows(self, message: Message) -> int:
        """How many samples of each batch this rank reads."""
        shard = self.context.options.shard
        return len(shard.rows(self.batch_size(message) or 0, self.context.place))

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        return [batch.data, batch.labels][: self.count]

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops]:
        batch = self._batch(index, True)
        return [batch.blob, batch.labels][: self.count]

    def _batch(self, index: int, as_crops: bool) -> Batch:
        self.check(self.reader is not None, "the net was built for its shapes, it cannot read data")
        assert self.reader is not None
        self.reader.defer_arithmetic(as_crops)
        with errors_at(self.context.place):
            return self.reader.batch(index)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = None
