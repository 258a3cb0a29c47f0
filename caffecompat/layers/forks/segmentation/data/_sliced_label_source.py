"""The base class of data layers of two lists, with a grid of labels for each image."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from caffecompat.layers._base import Message, Shape, exactly
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.sources.label_grids.sliced_maps import Grid
    from caffecompat.layers._base import Array


class SlicedLabelSource(BatchSource):
    """Images (batch, C, H, W) and labels (batch, 1, height, width of ``label_slice``).

    A subclass defines :meth:`_read_settings`, which sets ``grid``.

    Attributes:
        first_list: the field of the list of images; that of label images is ``label_list_path``.
    """

    tops = exactly(2)
    first_list: ClassVar[str]
    grid: Grid

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import MissingInput

        p = getattr(message, cls.batch_param)
        return [
            MissingInput(path, f"list of {what}", f"ls {folder} > {shlex.quote(path)}", (hint,))
            for path, what, folder, hint in (
                (getattr(p, cls.first_list), "images", "IMAGES", "IMAGES: the folder of images"),
                (p.label_list_path, "label images", "LABELS", "LABELS: a label image for each"),
            )
            if not os.path.exists(path)
        ]

    def _read_settings(self, message: Message) -> None:
        """Checks the settings and sets ``grid``."""
        raise NotImplementedError

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.reader = None  # a net that refuses the settings closes its sources
        self._read_settings(message)
        super().setup(message, bottoms)
        self._complete_shapes()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self.reader = None
        self._read_settings(message)
        super().state_shapes(message, stated)
        self._complete_shapes()

    def _complete_shapes(self) -> None:
        image = self.shapes[0]
        self.shapes = [image, (image[0], 1, *self.grid.extent)]

    def path(self, message: Message) -> str:
        return str(getattr(getattr(message, self.batch_param), self.first_list))

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        maps: Any = batch.labels.reshape(len(batch.data), 1, *self.grid.extent)
        return [batch.data, maps]

    def read_for_gpu(self, index: int) -> Sequence[Array]:
        return self.read(index)

    def grid_of(self, field: str, part: Message, stride: int | None = 1) -> Grid:
        """The grid that a Slice describes, ``stride`` and offset 0 where it gives none.

        Args:
            field: its name, for messages.
            stride: None where the Slice must give stride and offset.
        """
        from caffecompat.data.sources.label_grids.sliced_maps import Grid

        found = {name: list(getattr(part, name)) for name in ("dim", "stride", "offset")}
        least = 2 if stride is None else 0
        counts = {name: (max(least, name == "dim"), 2) for name in found}
        for name, values in found.items():
            low, high = counts[name]
            self.check(
                low <= len(values) <= high,
                f"{field} has {len(values)} values of {name}; give {name} twice, for height and "
                "width",
            )
        self.check(min(found["dim"]) > 0, f"{field}: dim is 0, it must be positive")
        defaults = {"dim": 1, "stride": stride or 1, "offset": 0}
        pairs = {}
        for name, values in found.items():
            high, wide = (values or [defaults[name]]) * (2 if len(values) < 2 else 1)
            pairs[name] = (int(high), int(wide))
        return Grid(pairs["offset"], pairs["stride"], pairs["dim"])
