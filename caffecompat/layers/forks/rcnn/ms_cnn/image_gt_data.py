"""ImageGtData of MS-CNN: training images with maps of labels for several strides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, at_least, register
from caffecompat.layers.forks.rcnn.ms_cnn._region_source import RegionSource

if TYPE_CHECKING:
    from caffecompat.data.sources.objects.region_images import Order, RegionSettings
    from caffecompat.data.sources.objects.region_lists import RegionImage
    from caffecompat.layers._base import Array


@register("ImageGtData", fork="MS-CNN")
class ImageGtData(RegionSource):
    """Images of a list, cut or centred to one size, and which anchors match their objects.

    Tops: images (batch, 3, H, W); for each ``downsample_rate`` a map (batch, 6, h, w) with label, x
    and y of the centre, width, height and overlap of the object that the cell's anchor (``field_h``
    x ``field_w``) overlaps most, if by more than ``fg_threshold``; and with ``output_gt_boxes``
    rows (G, 7, 1, 1): [image, x1, y1, x2, y2, label, ignored], or [0, 1, 1, 2, 2, 1, 1] without
    objects. Label 0 and overlap 1 say that a cell is ignored: beside the image, or where regions to
    ignore cover 0.4 of the anchor. An object without a cell gets that of its centre on the map of
    its best anchor, if it overlaps that by 0.2 or more.

    ``source`` is a list in MS-CNN's format (see ``data/sources/objects/region_lists.py``). An
    image is flipped (``mirror`` of ``transform_param``), resized to ``resize_width`` x
    ``resize_height``, and cut to ``crop_width`` x ``crop_height`` around a random object; with
    ``do_multiple_scale`` every second one is first multiplied so that the object gets one of the
    sizes from ``min_scale`` to ``max_scale``, in half octaves, and every second of these an aspect
    from ``min_whaspect`` to ``max_whaspect``. Objects whose centre is cut off or that are smaller
    than ``min_gt_width`` x ``min_gt_height`` are ignored. Images with objects occur
    ``fg_img_multiple`` times in the list. ``mean_value`` is of ``transform_param``, ``scale`` of
    ``image_gt_data_param``; ``mean_file`` is not used. Random choices are pure functions of the
    seed and the sample's number. Source: image_gt_data_layer.cpp of MS-CNN.
    """

    tops = at_least(2)
    batch_param = "image_gt_data_param"
    param_fields = ("image_gt_data_param", "transform_param")
    fork_fields = ("image_gt_data_param",)
    with_difficult = False

    def read_settings(self, message: Message) -> RegionSettings:
        from caffecompat.data.sources.objects.region_images import (
            RegionSettings,
            rescale_in_half_octaves,
        )
        from caffecompat.data.transforms.anchor_maps import AnchorSettings

        p, t = message.image_gt_data_param, message.transform_param
        self.check(p.coord_num == 4, f"coord_num is {p.coord_num}, only 4 is possible")
        rates = list(p.downsample_rate)
        self.check(
            len(rates) > 0
            and len(rates) == len(p.field_h) == len(p.field_w)
            and min(rates, default=0) > 0,
            f"it has {len(rates)} downsample_rate, {len(p.field_h)} field_h and {len(p.field_w)} "
            "field_w; give as many of each, and positive rates",
        )
        self.with_rows = p.output_gt_boxes
        resize = p.HasField("resize_width") and p.HasField("resize_height")
        size = (int(p.resize_height), int(p.resize_width))
        self.check(not resize or min(size) > 0, "resize_width and resize_height must be positive")
        crop = (int(p.crop_height), int(p.crop_width))
        self.check(
            not resize or all(c <= e for c, e in zip(crop, size, strict=True)),
            f"the crop {crop[0]}x{crop[1]} is larger than the image {size[0]}x{size[1]}",
        )
        rescaling = self._rescaling(p)
        return RegionSettings(
            batch=p.batch_size,
            resized=lambda own, _: size if resize else own,
            canvas=lambda own, _: (crop[0] or own[0], crop[1] or own[1]),
            rescale=rescale_in_half_octaves,
            rescaling=rescaling,
            anchors=AnchorSettings(
                strides=tuple(rates),
                heights=tuple(p.field_h),
                widths=tuple(p.field_w),
                threshold=p.fg_threshold,
            ),
            last_decides=True,
            least=(p.min_gt_height, p.min_gt_width),
            mirror=t.mirror,
            mean=tuple(t.mean_value),
            scale=p.scale,
        )

    def _rescaling(self, p: Message) -> Any:
        from caffecompat.data.sources.objects.region_images import Rescaling

        both = p.HasField("min_scale") and p.HasField("max_scale")
        if not (p.do_multiple_scale and both):
            return None
        self.check(
            0 < p.min_scale <= p.max_scale,
            f"min_scale is {p.min_scale} and max_scale {p.max_scale}; expected positive sizes, the "
            "smaller one first",
        )
        aspects = None
        if p.HasField("min_whaspect") and p.HasField("max_whaspect"):
            aspects = (float(p.min_whaspect), float(p.max_whaspect))
            self.check(
                aspects[0] > 0 and aspects[1] - aspects[0] >= 0.05,
                "max_whaspect must be larger than min_whaspect by 0.05 or more, both positive",
            )
        return Rescaling(float(p.min_scale), float(p.max_scale), aspects)

    def listed(self, message: Message, images: list[RegionImage]) -> list[RegionImage]:
        times = max(int(message.image_gt_data_param.fg_img_multiple), 1)
        return [image for image in images for _ in range(times if (~image.ignored).any() else 1)]

    def order(self, message: Message, images: list[RegionImage]) -> Order | None:
        from caffecompat.data.sources.objects.region_images import shuffled

        if not message.image_gt_data_param.shuffle:
            return None
        return shuffled(images, "random", 1, self.context.options.seed)

    def blobs(self, rows: Array, sizes: Array) -> list[Array]:
        import numpy as np

        if not self.with_rows:
            return []
        found = rows[:, :7]
        if not len(found):
            found = np.array([[0, 1, 1, 2, 2, 1, 1]], np.float32)
        return [np.ascontiguousarray(found).reshape(-1, 7, 1, 1)]

    def shape_from_definition(self, message: Message) -> Shape:
        p = message.image_gt_data_param
        size = (p.crop_height or p.resize_height, p.crop_width or p.resize_width)
        if not min(size):
            self.refuse_unknown_shape(message, "there is no crop and no resize_width and _height")
        return (self.rows(message), 3, *size)
