"""ImageData: the images of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._batch_source import RESIZING_FIELDS, BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader


@register("ImageData")
class ImageData(BatchSource):
    """Batches of the images of a list, transformed by ``transform_param``.

    Tops: images (batch, C, H, W), and labels (batch,) if there is a second top. A line of
    ``source`` is a file name, one space, a label; ``root_folder`` is a prefix of the name, without
    a separator. Images are decoded to 3 x 8 bit (B, G, R), or to gray without ``is_color``, and
    resized to ``new_height`` x ``new_width`` if both are given. Shuffling, ``rand_skip``, crops,
    flips, sizes and colours are a pure function of the seed and the sample's number in the run.
    Source: Caffe's ImageData layer.

    In a net with ``shapes_only`` the list may be missing if ``crop_size``, or ``new_height`` and
    ``new_width``, give the image size.
    """

    batch_param = "image_data_param"
    fork_fields = RESIZING_FIELDS

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import mean_of_list, missing_list

        found = [missing_list(message), mean_of_list(message)]
        return [missing for missing in found if missing is not None]

    def path(self, message: Message) -> str:
        return str(message.image_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_image_reader

        return open_image_reader(message, self.context.phase, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        p, crop = message.image_data_param, message.transform_param.crop_size
        height, width = (crop, crop) if crop else (p.new_height, p.new_width)
        t = message.transform_param
        resized = t.img_rand_resize_upper or any(
            t.HasField(name.partition(".")[2]) for name in RESIZING_FIELDS
        )
        if resized and not crop:
            self.refuse_unknown_shape(message, "images are resized without a crop_size")
        if not height or not width:
            self.refuse_unknown_shape(
                message, "there is no crop_size, nor new_height and new_width"
            )
        return (self.rows(message), 3 if p.is_color else 1, height, width)
