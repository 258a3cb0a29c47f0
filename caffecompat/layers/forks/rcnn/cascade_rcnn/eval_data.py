"""EvalData of Cascade R-CNN: test images with their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers.forks.rcnn.ms_cnn._region_source import RegionSource

if TYPE_CHECKING:
    from caffecompat.data.sources.objects.region_images import RegionSettings, Size
    from caffecompat.layers._base import Array


@register("EvalData", fork="Cascade R-CNN")
class EvalData(RegionSource):
    """Images of a list in order, resized, with their objects.

    Tops: images (batch, 3, H, W); objects (G, 8, 1, 1) with rows [image, x1, y1, x2, y2, label,
    ignored, difficult], all -1 without objects; and perhaps height and width of each image (batch,
    2, 1, 1). ``source`` is a list in Cascade R-CNN's format (see
    ``data/sources/objects/region_lists.py``). An image is resized to ``resize_width`` x
    ``resize_height``; or so that the shorter side has ``short_size`` pixels, sides cut to
    ``long_size``; sides are rounded to multiples of 32. Without ``resize_width`` and
    ``resize_height`` the batch must be 1. ``mean_value`` and ``scale`` are of ``transform_param``.
    Source: eval_data_layer.cpp of Cascade R-CNN.
    """

    tops = between(2, 3)
    batch_param = "eval_data_param"
    param_fields = ("eval_data_param", "transform_param")
    fork_fields = ("eval_data_param",)

    def read_settings(self, message: Message) -> RegionSettings:
        from caffecompat.data.sources.objects.region_images import RegionSettings

        p, t = message.eval_data_param, message.transform_param
        fixed = p.HasField("resize_width") and p.HasField("resize_height")
        self.check(
            fixed or p.batch_size == 1,
            f"batch_size is {p.batch_size}, but images of several sizes need a batch of 1; or give "
            "resize_width and resize_height",
        )
        self.check(
            not fixed or min(p.resize_width, p.resize_height) > 16,
            "resize_width and resize_height must be more than 16, since sides are multiples of 32",
        )
        self.check(not t.mirror, "mirror is set, but test images are not flipped; remove it")
        self.with_sizes = len(message.top) > 2
        return RegionSettings(
            batch=p.batch_size,
            resized=lambda own, _: _resized(p, own),
            canvas=None,
            mean=tuple(t.mean_value),
            scale=t.scale,
        )

    def blobs(self, rows: Array, sizes: Array) -> list[Array]:
        import numpy as np

        found = rows if len(rows) else np.full((1, 8), -1, np.float32)
        boxes = np.ascontiguousarray(found).reshape(-1, 8, 1, 1)
        return [boxes, sizes] if self.with_sizes else [boxes]

    def shape_from_definition(self, message: Message) -> Shape:
        p = message.eval_data_param
        if not (p.HasField("resize_width") and p.HasField("resize_height")):
            self.refuse_unknown_shape(message, "there is no resize_width and resize_height")
        return (self.rows(message), 3, *_resized(p, (p.resize_height, p.resize_width)))


def _resized(p: Message, own: Size) -> Size:
    from caffecompat.data.rounding import round_away
    from caffecompat.data.sources.objects.region_images import rounded_size

    if p.HasField("resize_width") and p.HasField("resize_height"):
        return rounded_size((p.resize_height, p.resize_width))
    if p.HasField("short_size") and p.HasField("long_size"):
        scale = p.short_size / min(own)
        longest = int(p.long_size)
        own = (min(round_away(own[0] * scale), longest), min(round_away(own[1] * scale), longest))
    height, width = rounded_size(own)
    return (max(height, 32), max(width, 32))
