"""ImageSegUniformSizeData: images with a label for each pixel from a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers.forks.segmentation.data._label_map_source import (
    LabelMapSource,
    square_or_sides,
)

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings
    from caffecompat.layers._base import Array


@register("ImageSegUniformSizeData", fork="HybridNet")
class ImageSegUniformSizeData(LabelMapSource):
    """Batches of images and label maps of a database, with one crop and flip for both.

    Tops: images (batch, C, H, W), label maps (batch, 1, H, W), and, if asked for, the height and
    width of the images (2). A record is a Datum with an encoded image whose field 8, ``labels``,
    has an integer for each pixel, row by row. ``crop_size``, or ``crop_height`` and ``crop_width``,
    of ``transform_param`` are cut out, at random in TRAIN, and ``mirror`` flips half of the
    samples; ``mean_value`` and ``scale`` apply to the image. Without a crop all images of a batch
    must have one size. Random choices are a pure function of the seed and the sample's number.
    ``mean_file`` is refused. Source: HybridNet's ImageSegUniformSizeData layer.
    """

    tops = between(1, 3)
    batch_param = "data_param"
    param_fields = ("data_param", "transform_param")
    fork_fields = ("transform_param.crop_height", "transform_param.crop_width")

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        """No command of ours makes such a database."""
        return []

    def settings_of(self, message: Message) -> LabelMapSettings:
        from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings

        t = message.transform_param
        return LabelMapSettings(
            crop=square_or_sides(self, t.crop_size, t.crop_height, t.crop_width),
            random_crop=self.training,
            mirror=t.mirror,
            mean=tuple(t.mean_value),
            scale=t.scale,
        )

    def _check_size(self, message: Message) -> None:
        """There is no size to resize to."""

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_dense_label_reader

        return open_dense_label_reader(message, self.settings_read, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        if self.settings_read.crop is None:
            self.refuse_unknown_shape(message, "there is no crop")
        channels = 1 if message.transform_param.force_gray else 3
        return (self.rows(message), channels, *self.settings_read.crop)

    def _tops(self, image: Shape) -> list[Shape]:
        tops: list[Shape] = [image, (image[0], 1, *image[2:]), (2,)]
        return tops[: self.count]

    def read(self, index: int) -> Sequence[Array]:
        images, *others = super().read(index)
        size = np.array(images.shape[2:], np.float32)
        return [images, *others[:1], size][: self.count]
