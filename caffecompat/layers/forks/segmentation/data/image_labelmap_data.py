"""ImageLabelmapData: images with maps of edges, as HED reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, exactly, register
from caffecompat.layers.forks.segmentation.data._label_map_source import (
    LabelMapSource,
    square_or_sides,
)

if TYPE_CHECKING:
    from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings


@register("ImageLabelmapData", fork="HED")
class ImageLabelmapData(LabelMapSource):
    """Batches of images and maps of edges, with one crop and flip for both.

    Tops: images (batch, C, H, W) and maps (batch, 1, H, W). A line of ``source`` names an image and
    a gray image of the same size; the map is 1 where its value is 128 or more, which for maps of
    several annotators are the edges that most of them agree on, and 0 elsewhere. Both are resized
    smoothly to ``new_height`` x ``new_width``, before the map is rounded. The crop (``crop_size``)
    is random in TRAIN. Random choices are a pure function of the seed and the sample's number.
    Source: HED's ImageLabelmapData layer.
    """

    tops = exactly(2)
    batch_param = "image_data_param"
    param_fields = ("image_data_param", "transform_param")

    def settings_of(self, message: Message) -> LabelMapSettings:
        from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings

        p, t = message.image_data_param, message.transform_param
        return LabelMapSettings(
            size=(p.new_height, p.new_width) if p.new_height else None,
            crop=square_or_sides(self, t.crop_size, 0, 0),
            random_crop=self.training,
            mirror=t.mirror,
            edges=True,
            mean=tuple(t.mean_value),
            scale=t.scale,
        )
