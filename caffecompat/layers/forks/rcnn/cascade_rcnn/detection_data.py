"""DetectionData of Cascade R-CNN: training images with their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, at_least, register
from caffecompat.layers.forks.rcnn.ms_cnn._region_source import RegionSource

if TYPE_CHECKING:
    from caffecompat.data.sources.objects.region_images import Order, RegionSettings, Size
    from caffecompat.data.sources.objects.region_lists import RegionImage
    from caffecompat.layers._base import Array

_SHUFFLES = ("random", "random_aspect", "random_mix_aspect")


@register("DetectionData", fork="Cascade R-CNN")
class DetectionData(RegionSource):
    """Images of a list, rescaled at random and cut or centred to one size, with their objects.

    Tops: images (batch, 3, H, W); for each ``stride`` a map (batch, 6, h, w) as ImageGtData gives
    it, with the last pixel in a box; and with ``output_gt_boxes`` rows (G, 8, 1, 1): [image, x1,
    y1, x2, y2, label, ignored, difficult], all -1 without objects.

    ``source`` is a list in Cascade R-CNN's format (see ``data/sources/objects/
    region_lists.py``). Colours are distorted (``distort_param``), the image is flipped (``mirror``
    of ``transform_param``) and resized: to ``resize_width`` x ``resize_height``, by
    ``resize_ratio``, or so that the shorter side has ``short_size``. With probability
    ``multiscale_prob`` it is multiplied so that a random object has a size from ``min_scale`` to
    ``max_scale``, or by a factor from ``low_scale_ratio`` to ``high_scale_ratio``, and its aspect
    by one from ``min_whaspect`` to ``max_whaspect``. Samples have ``crop_width`` x ``crop_height``
    pixels; or ``crop_short_size`` and ``crop_long_size``, or ``short_size`` and ``long_size`` in
    the direction of the batch's first image; or its size. Each batch multiplies the two last by one
    of the ``template_ratio``. ``shuffle`` is random, random_aspect or random_mix_aspect, with
    groups of ``mix_group_size``.

    A cell is ignored where regions to ignore cover ``ignore_fg_threshold`` of its anchor, unless it
    matches an object; where the anchor reaches beyond the image by more than
    ``anchor_ignore_margin_ratio`` of half its size; or else where less than
    ``anchor_ignore_iou_thr`` of it is in the image. ``pickup_iou_thr`` is the least overlap of an
    object without a cell. Random choices are pure functions of the seed and the sample's number.
    Source: detection_data_layer.cpp of Cascade R-CNN.
    """

    tops = at_least(2)
    batch_param = "detection_data_param"
    param_fields = ("detection_data_param", "transform_param")
    fork_fields = ("detection_data_param",)

    def read_settings(self, message: Message) -> RegionSettings:
        from caffecompat.data.sources.objects.region_images import (
            RegionSettings,
            rescale_by_logarithm,
        )
        from caffecompat.data.transforms.colour_distortion import ColourDistortion

        p, t = message.detection_data_param, message.transform_param
        self.with_rows = p.output_gt_boxes
        self._check_sizes(p)
        self.check(
            not p.HasField("shuffle") or p.shuffle in _SHUFFLES,
            f"shuffle is {p.shuffle!r}, expected {', '.join(_SHUFFLES)}",
        )
        return RegionSettings(
            batch=p.batch_size,
            resized=lambda own, factor: _resized(p, own, factor),
            canvas=lambda own, factor: _canvas(p, own, factor),
            rescale=rescale_by_logarithm,
            rescaling=self._rescaling(p),
            anchors=self._anchors(p),
            least=(p.min_gt_height, p.min_gt_width),
            mirror=t.mirror,
            mean=tuple(t.mean_value),
            scale=t.scale,
            ratios=tuple(p.template_ratio),
            distortion=ColourDistortion(p.distort_param) if p.HasField("distort_param") else None,
        )

    def _check_sizes(self, p: Message) -> None:
        self.check(p.coord_num == 4, f"coord_num is {p.coord_num}, only 4 is possible")
        ways = [
            name
            for name, fields in (
                ("resize_width and resize_height", ("resize_width", "resize_height")),
                ("resize_ratio", ("resize_ratio",)),
                ("short_size and long_size", ("short_size", "long_size")),
            )
            if any(p.HasField(field) for field in fields)
        ]
        self.check(
            len(ways) < 2, f"{', '.join(ways)} are given; give only {', or only '.join(ways)}"
        )
        self._check_pair(p, "resize_width", "resize_height")
        self._check_pair(p, "short_size", "long_size")
        self._check_pair(p, "crop_width", "crop_height")
        self._check_pair(p, "crop_short_size", "crop_long_size")
        self.check(
            not p.HasField("resize_ratio") or p.resize_ratio > 0,
            f"resize_ratio is {p.resize_ratio:g}, it must be positive",
        )
        self.check(all(ratio > 0 for ratio in p.template_ratio), "template_ratio must be positive")
        self.check(
            not (p.HasField("crop_width") and p.HasField("crop_short_size")),
            "crop_width and crop_short_size are both given; remove one pair",
        )

    def _check_pair(self, p: Message, first: str, second: str) -> None:
        given = (p.HasField(first), p.HasField(second))
        values = (getattr(p, first), getattr(p, second))
        self.check(
            given[0] == given[1] and (not given[0] or min(values) > 0),
            f"{first} is {values[0]} and {second} {values[1]}; give both, and positive ones",
        )

    def _anchors(self, p: Message) -> Any:
        from caffecompat.data.transforms.anchor_maps import AnchorSettings

        strides = tuple(p.stride)
        self.check(
            len(strides) == len(p.field_h) == len(p.field_w) and all(s > 0 for s in strides),
            f"it has {len(strides)} stride, {len(p.field_h)} field_h and {len(p.field_w)} field_w; "
            "give as many of each, and positive strides",
        )
        self.check(p.fg_threshold > 0, f"fg_threshold is {p.fg_threshold:g}, it must be positive")
        return AnchorSettings(
            strides=strides,
            heights=tuple(p.field_h),
            widths=tuple(p.field_w),
            threshold=p.fg_threshold,
            ignore_threshold=p.ignore_fg_threshold,
            pickup=p.pickup_iou_thr,
            inclusive=True,
            margin=_given(p, "anchor_ignore_margin_ratio"),
            inside=_given(p, "anchor_ignore_iou_thr"),
        )

    def _rescaling(self, p: Message) -> Any:
        from caffecompat.data.sources.objects.region_images import Rescaling

        pairs = [("min_scale", "max_scale"), ("low_scale_ratio", "high_scale_ratio")]
        given = [pair for pair in pairs if all(p.HasField(name) for name in pair)]
        self.check(len(given) < 2, "min_scale and low_scale_ratio are both given; remove one pair")
        if not given:
            return None
        least, most = (float(getattr(p, name)) for name in given[0])
        self.check(
            0 < least <= most,
            f"{given[0][0]} is {least:g} and {given[0][1]} {most:g}; expected positive numbers, "
            "the smaller one first",
        )
        aspects = None
        if p.HasField("min_whaspect") and p.HasField("max_whaspect"):
            aspects = (float(p.min_whaspect), float(p.max_whaspect))
            self.check(0 < aspects[0] < aspects[1], "expected 0 < min_whaspect < max_whaspect")
        relative = given[0] == pairs[1]
        return Rescaling(least, most, aspects, float(p.multiscale_prob), relative)

    def order(self, message: Message, images: list[RegionImage]) -> Order | None:
        from caffecompat.data.sources.objects.region_images import shuffled

        p = message.detection_data_param
        if not p.HasField("shuffle"):
            return None
        group = max(int(p.mix_group_size), 1)
        return shuffled(images, p.shuffle, group, self.context.options.seed)

    def blobs(self, rows: Array, sizes: Array) -> list[Array]:
        import numpy as np

        if not self.with_rows:
            return []
        found = rows if len(rows) else np.full((1, 8), -1, np.float32)
        return [np.ascontiguousarray(found).reshape(-1, 8, 1, 1)]

    def shape_from_definition(self, message: Message) -> Shape:
        p = message.detection_data_param
        size = _canvas(p, (p.resize_height, p.resize_width), 1.0)
        if not min(size):
            self.refuse_unknown_shape(message, "there is no crop, resize or short and long size")
        return (self.rows(message), 3, *size)


def _given(p: Message, name: str) -> float | None:
    return float(getattr(p, name)) if p.HasField(name) else None


def _rounded(value: float) -> int:
    from caffecompat.data.rounding import round_away

    return round_away(value / 32) * 32


def _resized(p: Message, own: Size, factor: float) -> Size:
    """The size of an image before it is placed."""
    from caffecompat.data.rounding import round_away

    if p.HasField("resize_width"):
        return (int(p.resize_height), int(p.resize_width))
    scale = 1.0
    if p.HasField("resize_ratio"):
        scale = p.resize_ratio
    elif p.HasField("short_size"):
        scale = _rounded(p.short_size * factor) / min(own)
    return (max(round_away(own[0] * scale), 1), max(round_away(own[1] * scale), 1))


def _canvas(p: Message, own: Size, factor: float) -> Size:
    """The size of samples, where the first image of the batch is resized to ``own``."""
    if p.HasField("crop_width"):
        return (int(p.crop_height), int(p.crop_width))
    if p.HasField("resize_width"):
        return (int(p.resize_height), int(p.resize_width))
    if p.HasField("crop_short_size"):
        sides = (int(p.crop_short_size), int(p.crop_long_size))
    elif p.HasField("short_size"):
        sides = (_rounded(p.short_size * factor), _rounded(p.long_size * factor))
    else:
        return own
    return (sides[1], sides[0]) if own[0] >= own[1] else sides
