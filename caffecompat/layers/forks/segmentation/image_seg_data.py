"""ImageSegData: images with a label for each pixel, as DeepLab reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, between, register
from caffecompat.layers.forks.segmentation._label_map_source import (
    LabelMapSource,
    square_or_sides,
)

if TYPE_CHECKING:
    from caffecompat.data.sources.label_maps import LabelMapSettings


@register("ImageSegData", fork="DeepLab, PSPNet")
class ImageSegData(LabelMapSource):
    """Batches of images and label maps, with one crop and flip for both.

    Tops: images (batch, C, H, W), label maps (batch, 1, H, W), and, if asked for, height and width
    of each image file (batch, 1, 1, 2), at most those of the top. ``label_type`` says what a line
    of ``source`` names beside the image: PIXEL, an image of labels; IMAGE, one label for all
    pixels; NONE, nothing, and all labels are ``ignore_label``. Label images are read as gray
    images, and resized to the nearest pixel. An image smaller than the crop (``crop_size``, or
    ``crop_h`` and ``crop_w``) gets a border of the mean, its map one of ``ignore_label``. The crop
    is random in TRAIN. Random choices are a pure function of the seed and the sample's number.
    Source: the ImageSegData layers of DeepLab and PSPNet.
    """

    tops = between(1, 3)
    batch_param = "image_data_param"
    param_fields = ("image_data_param", "transform_param")
    fork_fields = (
        "image_data_param.label_type",
        "image_data_param.ignore_label",
        "transform_param.crop_h",
        "transform_param.crop_w",
    )

    def settings_of(self, message: Message) -> LabelMapSettings:
        from caffecompat.data.sources.label_maps import LabelMapSettings

        p, t = message.image_data_param, message.transform_param
        kinds = {p.PIXEL: "pixel", p.IMAGE: "image", p.NONE: "none"}
        return LabelMapSettings(
            kind=kinds[p.label_type],  # type: ignore[arg-type]
            size=(p.new_height, p.new_width) if p.new_height else None,
            crop=square_or_sides(self, t.crop_size, t.crop_h, t.crop_w),
            random_crop=self.training,
            mirror=t.mirror,
            ignored=p.ignore_label,
            pads=True,
            mean=tuple(t.mean_value),
            scale=t.scale,
        )
