"""ImageLabelData: images with a grid of labels, as the dilation nets read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.segmentation.data._sliced_label_source import SlicedLabelSource

if TYPE_CHECKING:
    from caffecompat.data.loader.prefetch import BatchReader


@register("ImageLabelData", fork="dilation")
class ImageLabelData(SlicedLabelSource):
    """Batches of images and of labels at some of their pixels, with one crop and flip for both.

    Tops: images (batch, 3, crop, crop) and labels (batch, 1, dim, dim). ``image_list_path`` and
    ``label_list_path`` list images and gray label images of the same sizes, behind ``image_dir``
    and ``label_dir``, or both behind ``data_dir``. With ``rand_scale`` both get a random size, the
    label image to the nearest pixel. They get a border as wide as ``label_slice.offset``, and a
    further one up to ``crop_size``: of label 255, and of the image itself mirrored, or of 0 with
    ``padding: ZERO``. Then both are cropped, at random in TRAIN, and flipped (``mirror``), and
    mean_value and scale are applied. Of the cropped map the pixels ``offset + stride n`` are the
    labels. Random choices are a pure function of the seed and the sample's number.
    Source: the ImageLabelData layer of Yu and Koltun's Caffe.
    """

    batch_param = "image_label_data_param"
    first_list = "image_list_path"
    param_fields = ("transform_param",)
    fork_fields = ("image_label_data_param",)

    def _read_settings(self, message: Message) -> None:
        from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings
        from caffecompat.data.sources.label_grids.sliced_maps import OUTSIDE, SliceSettings

        p, t = message.image_label_data_param, message.transform_param
        self.check(t.crop_size > 0, "transform_param has no crop_size, which it needs")
        self.check(not t.mean_file, "it takes mean_value, and no mean_file")
        self.grid = self.grid_of("label_slice", p.label_slice, None)
        self.check(
            max(self.grid.end) <= t.crop_size,
            f"label_slice reaches to {self.grid.end[0]}x{self.grid.end[1]}, beyond the crop_size "
            f"{t.crop_size}; make its dim smaller",
        )
        self.check(
            not p.rand_scale or 0 < p.min_scale <= p.max_scale,
            f"min_scale is {p.min_scale:g} and max_scale {p.max_scale:g}; expected 0 < min_scale "
            "<= max_scale",
        )
        self.steps = LabelMapSettings(
            crop=(t.crop_size, t.crop_size),
            random_crop=self.training,
            mirror=t.mirror,
            ignored=OUTSIDE,
            mean=tuple(t.mean_value),
            scale=t.scale,
        )
        self.slicing = SliceSettings(
            t.crop_size,
            self.grid,
            reflects=p.padding == p.REFLECT,
            scales=(p.min_scale, p.max_scale) if p.rand_scale else None,
        )

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_sliced_map_reader

        p = message.image_label_data_param
        return open_sliced_map_reader(p, self.steps, self.slicing, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        side = int(message.transform_param.crop_size)
        return (self.rows(message), 3, side, side)
