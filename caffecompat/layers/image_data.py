"""ImageData: images that a list names."""

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


@register("ImageData")
class ImageData(Source):
    """Batches of the images of a list, transformed by ``transform_param``.

    Tops: images (batch, C, H, W), and labels (batch,) where a second top is asked for. A line of
    ``source`` is a file name, one space, a label; ``root_folder`` is put before the name as it is.
    Images become 3 x 8 bit (B, G, R), or gray without ``is_color``, and are resized to
    ``new_height`` x ``new_width`` where both are given. Shuffling, ``rand_skip``, crops, flips,
    sizes and colours are a pure function of the seed and the running number of the sample.
    Source: Caffe's ImageData layer.

    In a net built for its shapes the list may be missing if ``crop_size``, or ``new_height`` and
    ``new_width``, say how large an image is.
    """

    reads = ("transform_param",)
    tops = between(1, 2)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.image_list import open_image_reader

        self.reader: BatchReader | None = None
        self.count = len(message.top)
        if self.context.shapes_only and not os.path.exists(message.image_data_param.source):
            image = self._promised_shape(message)
        else:
            with errors_at(self.context.place):
                self.reader = open_image_reader(
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
        from caffecompat.data.sharding import shard

        p, crop = message.image_data_param, message.transform_param.crop_size
        height, width = (crop, crop) if crop else (p.new_height, p.new_width)
        rescaled = message.transform_param.img_rand_resize_upper and not crop
        if not height or not width or rescaled:
            raise DataError(
                f"{self.context.place}: the list {p.source!r} does not exist, so the size of its "
                "images is unknown; create it, or give crop_size, or new_height and new_width"
            )
        rows = shard(p.batch_size, self.context.rank, self.context.ranks, self.context.place)
        return (len(rows), 3 if p.is_color else 1, height, width)

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
