"""WindowData: windows of images, for fine-tuning as R-CNN does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers.base import Message, Shape, Source, exactly, register
from caffecompat.layers.reading import errors_at

if TYPE_CHECKING:
    from caffecompat.data.reader import BatchReader
    from caffecompat.layers.base import Array


@register("WindowData")
class WindowData(Source):
    """Windows that a window file lists, background ones first, then foreground ones.

    Tops: images (batch, 3, crop_size, crop_size) and labels (batch,). ``scale`` is taken from
    ``window_data_param`` and not from ``transform_param``; what lies outside an image stays 0.
    Which window comes when, and its flip, is a pure function of the seed and the running number of
    the sample. Source: Caffe's WindowData layer.
    """

    reads = ("transform_param",)
    tops = exactly(2)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.sharding import shard
        from caffecompat.data.windows import open_window_reader

        self.reader: BatchReader | None = None
        p, crop = message.window_data_param, message.transform_param.crop_size
        if not (self.context.shapes_only and not os.path.exists(p.source)):
            with errors_at(self.context.place):
                self.reader = open_window_reader(
                    message, self.context.seed, rank=self.context.rank, ranks=self.context.ranks
                )
        self.check(crop > 0, "transform_param: crop_size is 0; WindowData needs one")
        context = self.context
        rows = len(shard(p.batch_size, context.rank, context.ranks, context.place))
        self.shapes = [(rows, 3, crop, crop), (rows,)]
        if self.context.shapes_only:
            self.close()

    def read(self, index: int) -> Sequence[Array]:
        self.check(self.reader is not None, "the net was built for its shapes, it cannot read data")
        assert self.reader is not None
        with errors_at(self.context.place):
            batch = self.reader.batch(index)
        return [batch.data, batch.labels]

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = None
