"""Data: images and labels from a database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.errors import DataError
from caffecompat.layers.base import Message, Shape, Source, between, register
from caffecompat.layers.reading import errors_at

if TYPE_CHECKING:
    from caffecompat.data.reader import BatchReader
    from caffecompat.layers.base import Array


@register("Data")
class Data(Source):
    """Batches of records of a database, transformed by ``transform_param``.

    Tops: images (batch, C, H, W), and labels (batch,) where a second top is asked for. Pass i
    holds the records i * batch_size and following, starting again at the first after the last;
    crops, flips, sizes and colours are a pure function of the seed and the running number of the
    sample. The first record of a batch decides its size. Source: Caffe's Data layer.

    In a net built for its shapes the database may be missing if ``crop_size`` and the channels
    (by ``force_color``, ``force_gray`` or several ``mean_value``) say how large an image is.
    """

    reads = ("transform_param",)
    without_effect = (
        "data_param.crop_size",
        "data_param.force_encoded_color",
        "data_param.mean_file",
        "data_param.mirror",
        "data_param.rand_skip",
        "data_param.scale",
    )
    tops = between(1, 2)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.reader import open_reader

        self.reader: BatchReader | None = None
        self.count = len(message.top)
        if self.context.shapes_only and not os.path.exists(message.data_param.source):
            image = self._promised_shape(message)
        else:
            with errors_at(self.context.place):
                self.reader = open_reader(
                    message,
                    self.context.phase,
                    self.context.seed,
                    skip_corrupt=self.context.skip_corrupt,
                    rank=self.context.rank,
                    ranks=self.context.ranks,
                )
                image = self.reader.shape()
        self.shapes = [image, image[:1]][: self.count]
        if self.context.shapes_only:
            self.close()

    def _promised_shape(self, message: Message) -> Shape:
        """The shape of a batch by the definition alone."""
        from caffecompat.data.sharding import shard

        p = message.transform_param
        channels = 3 if p.force_color else 1 if p.force_gray else len(p.mean_value)
        one_for_all = channels == 1 and not p.force_gray
        if not p.crop_size or not channels or one_for_all:
            raise DataError(
                f"{self.context.place}: the database {message.data_param.source!r} does not exist, "
                "so the shape of its images is unknown; create it, or give crop_size and one "
                "mean_value per channel (or force_color)"
            )
        place, rank, ranks = self.context.place, self.context.rank, self.context.ranks
        rows = shard(message.data_param.batch_size, rank, ranks, place)
        return (len(rows), channels, p.crop_size, p.crop_size)

    def read(self, index: int) -> Sequence[Array]:
        self.check(self.reader is not None, "the net was built for its shapes, it cannot read data")
        assert self.reader is not None
        with errors_at(self.context.place):
            batch = self.reader.batch(index)
        return [batch.data, batch.labels][: self.count]

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader = None
