"""ImageSegData: images with a label for each pixel, as DeepLab reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, between, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers.forks.segmentation.data._label_map_source import (
    LabelMapSource,
    square_or_sides,
)

if TYPE_CHECKING:
    from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings


# Of caffe-augmentation.
FIELDS = (
    *("max_rotation_angle", "max_color_shift", "contrast_brightness_adjustment"),
    *("min_contrast", "max_contrast", "max_brightness_shift"),
    *("smooth_filtering", "max_smooth", "apply_probability"),
)


@register("ImageSegData", fork="DeepLab, PSPNet")
class ImageSegData(LabelMapSource):
    """Batches of images and label maps, with one crop and flip for both.

    Tops: images (batch, C, H, W), label maps (batch, 1, H, W), and, if asked for, height and width
    of each image file (batch, 1, 1, 2), at most those of the top. ``label_type`` says what a line
    of ``source`` names beside the image: PIXEL, an image of labels; IMAGE, one label for all
    pixels; NONE, nothing, and all labels are ``ignore_label``. Label images are read as gray
    images, and resized to the nearest pixel. An image smaller than the crop (``crop_size``, or
    ``crop_h`` and ``crop_w``) gets a border of the mean, its map one of ``ignore_label``. The crop
    is random in TRAIN. The fields of caffe-augmentation change images in TRAIN, before the mean:
    rotation (``max_rotation_angle``), colour, contrast and smoothness. A turned map has
    ``ignore_label`` around it, which is concluded. Random choices are a pure function of the seed
    and the sample's number. Source: the ImageSegData layers of DeepLab and PSPNet, and the data
    transformer of caffe-augmentation.
    """

    tops = between(1, 3)
    batch_param = "image_data_param"
    param_fields = ("image_data_param", "transform_param")
    fork_fields = (
        "image_data_param.label_type",
        "image_data_param.ignore_label",
        "transform_param.crop_h",
        "transform_param.crop_w",
        *(f"transform_param.{name}" for name in FIELDS),
    )

    def settings_of(self, message: Message) -> LabelMapSettings:
        from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings
        from caffecompat.data.transforms.photo_augmentation import photo_augmentation

        p, t = message.image_data_param, message.transform_param
        with errors_at(self.context.place):
            augmentation = photo_augmentation(t) if self.training else None
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
            augmentation=augmentation,
        )
