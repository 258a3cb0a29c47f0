"""The base class of data layers that prefetch batches of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, NoReturn

from caffecompat.errors import DataError, FileProblem, FormatError, ShapesUnknown
from caffecompat.layers._base import Message, Shape, between, format_shape
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    from caffecompat.data.loader.batch import Batch
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array

# Fields of forks with which images are resized before they are cropped.
RESIZING_FIELDS = tuple(
    f"transform_param.{name}"
    for name in (
        *("vertical_stretch_lower", "vertical_stretch_upper"),
        *("horizontal_stretch_lower", "horizontal_stretch_upper"),
        *("rand_resize_ratio_lower", "rand_resize_ratio_upper"),
        *("allow_upscale", "interpolation_algo_down", "interpolation_algo_up"),
        *("resize_size", "resize_short_side_min", "resize_short_side_max"),
    )
)


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Prefixes the messages of errors about files or records with ``place``."""
    try:
        yield
    except (FileProblem, FormatError, DataError) as error:
        raise type(error)(f"{place}: {error}") from error


class BatchSource(Source):
    """A source of images and optional labels that background threads prefetch.

    Tops: (rows, C, H, W) and (rows,). A subclass defines :meth:`path`, :meth:`open` and
    :meth:`shape_from_definition`. The reader is a
    :class:`caffecompat.data.loader.prefetch.BatchReader`.
    """

    param_fields: ClassVar[tuple[str, ...]] = ("transform_param",)
    tops = between(1, 2)
    reads_shard = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.reader: BatchReader | None = None
        self.count = len(message.top)
        if self.context.options.shapes_only and self._files_missing(message):
            image = self.shape_from_definition(message)
        else:
            with errors_at(self.context.place):
                self.refuse_missing(message)
                self.reader = self.open(message)
                image = self.reader.shape()
        self.shapes = [image, image[:1]][: self.count]
        if self.context.options.shapes_only:
            self.close()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        """A stated shape with three extents is that of one image: channels, height, width."""
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
        """Raises FileProblem, with the commands that create it, if a file is missing."""
        from caffecompat.layers._missing_files import refuse_missing

        c = self.context
        refuse_missing(message, c.phase, c.definition, c.path)

    def refuse_unknown_shape(self, message: Message, unless: str) -> NoReturn:
        """Raises ShapesUnknown where files are missing and the definition gives no image shape."""
        top = message.top[0]
        try:
            self.refuse_missing(message)
            # The layer's type names no command that creates the file.
            raise FileProblem(f"{self.path(message) or 'source'}: there is no such file")
        except FileProblem as error:
            raise ShapesUnknown(
                f"{self.context.place}: the shape of its images is unknown",
                f": its files are missing, and {unless}; state it with --shape {top}=3x224x224, or "
                f"create the files: {error}",
                top,
            ) from error

    def _files_missing(self, message: Message) -> bool:
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

    def shape_from_definition(self, message: Message) -> Shape:
        """The shape of a batch according to the definition, where the file is missing.

        Raises:
            FileProblem: the definition does not give it.
        """
        raise NotImplementedError

    @property
    def records(self) -> int | None:
        return None if self.reader is None else self.reader.records

    def rows(self, message: Message) -> int:
        """The number of samples of each batch that this rank reads."""
        shard = self.context.options.shard
        return len(shard.rows(self.batch_size(message) or 0, self.context.place))

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        return [batch.data, batch.labels][: self.count]

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops]:
        batch = self._batch(index, True)
        return [batch.blob, batch.labels][: self.count]

    def _batch(self, index: int, as_crops: bool) -> Batch:
        self.check_opened(self.reader)
        assert self.reader is not None
        self.reader.defer_arithmetic(as_crops, self.crop_form)
        with errors_at(self.context.place):
            return self.reader.batch(index)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = None
