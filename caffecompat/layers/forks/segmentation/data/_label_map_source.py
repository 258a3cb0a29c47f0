"""The base class of data layers with a label for each pixel."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings
    from caffecompat.layers._base import Array


class LabelMapSource(BatchSource):
    """Images (batch, C, H, W) and label maps (batch, 1, H, W).

    A subclass defines :meth:`settings_of`. The list is in the field :attr:`batch_param`.
    """

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import MissingInput

        source = getattr(message, cls.batch_param).source
        if os.path.exists(source):
            return []
        hint = "IMAGES/ and LABELS/: folders of images and of label images with the same names"
        command = (
            f"ls IMAGES | sed 's|\\(.*\\)\\.[^.]*|IMAGES/& LABELS/\\1.png|' > {shlex.quote(source)}"
        )
        return [MissingInput(source, "list of images and label images", command, (hint,))]

    def settings_of(self, message: Message) -> LabelMapSettings:
        """How the definition says that images and maps become samples."""
        raise NotImplementedError

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._read_settings(message)
        super().setup(message, bottoms)
        self.shapes = self._tops(self.shapes[0])

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._read_settings(message)
        super().state_shapes(message, stated)
        self.shapes = self._tops(self.shapes[0])

    def _read_settings(self, message: Message) -> None:
        self.reader = None  # a net that refuses the settings closes its sources
        self._check_size(message)
        self.check(not message.transform_param.mean_file, "it takes mean_value, and no mean_file")
        self.settings_read = self.settings_of(message)

    def _check_size(self, message: Message) -> None:
        """Refuses half a size."""
        p = getattr(message, self.batch_param)
        self.check(
            (p.new_height == 0) == (p.new_width == 0),
            f"new_height is {p.new_height} and new_width {p.new_width}; set both, or neither",
        )

    def _tops(self, image: Shape) -> list[Shape]:
        divisor = self.settings_read.label_divisor
        label_map = (image[0], 1, image[2] // divisor, image[3] // divisor)
        tops = [image, label_map, (image[0], 1, 1, 2)]
        return tops[: self.count]

    def path(self, message: Message) -> str:
        return str(getattr(message, self.batch_param).source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_map_reader

        parameter = getattr(message, self.batch_param)
        return open_map_reader(parameter, self.settings_read, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        size = self.settings_read.crop or self.settings_read.size
        if size is None:
            self.refuse_unknown_shape(message, "there is no crop, nor new_height and new_width")
        colour = getattr(message, self.batch_param).is_color
        return (self.rows(message), 3 if colour else 1, *size)

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        n, _, *size = batch.data.shape
        height, width = (extent // self.settings_read.label_divisor for extent in size)
        maps: Any = batch.labels[:, : height * width].reshape(n, 1, height, width)
        sizes: Any = batch.labels[:, height * width :].reshape(n, 1, 1, 2)
        return [batch.data, maps, sizes][: self.count]

    def read_for_gpu(self, index: int) -> Sequence[Array]:
        return self.read(index)


def square_or_sides(layer: BatchSource, side: int, height: int, width: int) -> Any:
    """The crop that ``crop_size``, or two sides, say; None for none."""
    layer.check(
        not (side and (height or width)) and (height == 0) == (width == 0),
        f"the crop is {side}, {height}x{width}; give crop_size, or height and width of the crop",
    )
    if side:
        return (side, side)
    return (height, width) if height else None
