"""AnnotatedData of MobileNet-YOLO: images of several sizes, and lists of their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.data.transforms import box_resize
from caffecompat.errors import ShapesUnknown
from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd.annotated_data import AnnotatedData

if TYPE_CHECKING:
    from caffecompat.data.loader.batch import Batch
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.layers._base import Array

_OWN = (
    *("yolo_data_jitter", "train_diffcult", "single_class", "seg_scales", "seg_resize_width"),
    *("seg_resize_height", "difficult_label_warmup", "yolo_data_type"),
)
_ROOM = 300
_WITHOUT_MAPS = ("images", "objects")


@register("AnnotatedData", fork="MobileNet-YOLO")
class AnnotatedDataOfYolo(AnnotatedData):
    """As SSD's, but for sizes, crops and labels.

    Several ``resize_param`` have a probability (``prob``) each; one of them is drawn for every ten
    batches. Without a ``batch_sampler`` each image is cropped at random so that its sides lose up
    to ``yolo_data_jitter`` (0.3); 0 leaves it whole. With ``yolo_data_type: 1`` the second top is
    (batch, 1, 300, 5): for each image rows [class - 1, x, y, width, height], then zeros; difficult
    objects are left out without ``train_diffcult``.

    A third top, segmentation maps (batch, classes, H, W), has a shape in a net with ``shapes_only``
    only: the records that hold such maps are in a form of MobileNet-YOLO's own that is not
    supported. Its H and W are those of the images by ``seg_scales``, or ``seg_resize_width`` and
    ``seg_resize_height``, and it has one class with ``single_class``; otherwise state its shape.
    ``difficult_label_warmup`` is refused. Source: MobileNet-YOLO's AnnotatedData layer.
    """

    tops = between(1, 3)
    stated: Mapping[str, Shape] = MappingProxyType({})
    fork_fields = (*AnnotatedData.fork_fields, "transform_param.resize_param_list")

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        own = any(message.annotated_data_param.HasField(name) for name in _OWN)
        return own or len(message.transform_param.resize_param_list) > 0

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self.stated = stated
        super().state_shapes(message, stated)
        self._set_map_shape(message)

    def _read_settings(self, message: Message) -> None:
        added = type(message)()
        added.CopyFrom(message)
        for name in _OWN:
            added.annotated_data_param.ClearField(name)
        super()._read_settings(added)
        self.added = p = message.annotated_data_param
        self.lists = p.yolo_data_type == 1
        self.check(not p.difficult_label_warmup, "difficult_label_warmup is not supported")
        for one in message.transform_param.resize_param_list:
            refuse_other_fields(self, "resize_param", one, box_resize.FIELDS)
            self.check(
                one.resize_mode != one.FIT_SMALL_SIZE,
                "resize_param: FIT_SMALL_SIZE gives images of any size; use another resize_mode",
            )
        self.check(
            len(message.top) <= len(_WITHOUT_MAPS) or self.context.options.shapes_only,
            "segmentation maps (its third top) cannot be read; remove the top, and the layers that "
            "use it",
        )

    def _set_label_shape(self) -> None:
        if self.lists and len(self.shapes) > 1:
            self.shapes[1] = (self.shapes[0][0], 1, _ROOM, 5)
        else:
            super()._set_label_shape()

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self._set_map_shape(message)

    def _set_map_shape(self, message: Message) -> None:
        if len(message.top) > len(_WITHOUT_MAPS):
            self.shapes = [*self.shapes[:2], self._map_shape(message.top[2])]

    def _map_shape(self, top: str) -> Shape:
        """The shape of the segmentation maps."""
        if top in self.stated:
            return tuple(self.stated[top])
        p, (rows, _, height, width) = self.added, self.shapes[0]
        if p.seg_resize_width and p.seg_resize_height:
            size = (p.seg_resize_height, p.seg_resize_width)
        else:
            scale = max(p.seg_scales, 1)
            size = (height // scale, width // scale)
        if not p.single_class:
            raise ShapesUnknown(
                f"{self.context.place}: the number of classes of its segmentation maps is unknown",
                f"; state it with --shape {top}={rows}xCLASSESx{format_shape(size)}",
                top,
            )
        return (rows, 1, *size)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_annotated_reader
        from caffecompat.data.sources.objects.yolo_annotated import YoloAnnotatedSamples

        options, phase = self.context.options, self.context.phase
        reader, self.has_boxes = open_annotated_reader(
            message, phase, options, YoloAnnotatedSamples
        )
        return reader

    def shape_from_definition(self, message: Message) -> Shape:
        first = type(message)()
        first.CopyFrom(message)
        for one in list(message.transform_param.resize_param_list)[:1]:
            first.transform_param.resize_param.CopyFrom(one)
        return super().shape_from_definition(first)

    def _labels(self, batch: Batch) -> Array:
        if self.lists and self.has_boxes:
            labels: np.ndarray = batch.labels
            return labels.reshape(-1, 1, _ROOM, 5)
        return super()._labels(batch)
