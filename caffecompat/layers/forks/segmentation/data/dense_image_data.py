"""DenseImageData: images with a label for each pixel, as SegNet reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, exactly, register
from caffecompat.layers.forks.segmentation.data._label_map_source import (
    LabelMapSource,
    square_or_sides,
)

if TYPE_CHECKING:
    from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings


@register("DenseImageData", fork="SegNet, ENet")
class DenseImageData(LabelMapSource):
    """Batches of images and label maps, with one crop and flip for both.

    Tops: images (batch, C, H, W) and label maps (batch, 1, H, W). A line of ``source`` names an
    image and an image of labels, which is read as a gray image and resized to the nearest pixel.
    ``crop_height`` x ``crop_width`` is cut out at a random place, in TEST too, and ``mirror`` flips
    half of the samples. ``transform_param`` may subtract ``mean_value`` from the image and multiply
    by ``scale``; its ``mirror`` and ``crop_size`` are refused, as in the fork. Random choices are a
    pure function of the seed and the sample's number. With ENet's ``label_divide_factor`` the maps
    are smaller by that factor; it needs ``new_height`` and ``new_width``, and no crop.
    Source: the DenseImageData layers of SegNet and ENet.
    """

    tops = exactly(2)
    batch_param = "dense_image_data_param"
    param_fields = ("transform_param",)
    fork_fields = ("dense_image_data_param",)

    def settings_of(self, message: Message) -> LabelMapSettings:
        from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings

        p, t = message.dense_image_data_param, message.transform_param
        self.check(
            not (t.mirror or t.crop_size),
            "transform_param: mirror and crop_size would not change the labels too; use mirror, "
            "crop_height and crop_width of dense_image_data_param",
        )
        self.check(not p.mean_file, "dense_image_data_param: mean_file has no effect; remove it")
        divisor = int(p.label_divide_factor)
        self.check(divisor > 0, "label_divide_factor is 0, it must be positive")
        self.check(
            divisor == 1
            or bool(
                min(p.new_height, p.new_width) >= divisor and not (p.crop_height + p.crop_width)
            ),
            f"label_divide_factor {divisor} needs new_height and new_width of at least {divisor}, "
            "and no crop",
        )
        return LabelMapSettings(
            size=(p.new_height, p.new_width) if p.new_height else None,
            crop=square_or_sides(self, 0, p.crop_height, p.crop_width),
            random_crop=True,
            mirror=p.mirror,
            mean=tuple(t.mean_value),
            scale=t.scale,
            label_divisor=divisor,
        )
