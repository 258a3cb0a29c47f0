"""AnnotatedData: images and the boxes of their objects from a database."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.data.transforms import batch_samplers, box_resize, colour_distortion, image_noise
from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._batch_source import BatchSource
from caffecompat.layers.forks._other_fields import refuse_other_fields

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.batch import Batch
    from caffecompat.data.loader.prefetch import BatchReader
    from caffecompat.data.transforms.deferred_crops import DeferredCrops
    from caffecompat.layers._base import Array

_ADDED = (
    *("resize_param", "noise_param", "emit_constraint", "crop_h", "crop_w", "distort_param"),
    "expand_param",
)
_ONE_ROW = (1, 1, 1, 8)


@register("AnnotatedData", fork="SSD, RefineDet")
class AnnotatedData(BatchSource):
    """Batches of records of a database of AnnotatedDatum, which ``convert-annoset`` makes.

    Tops: images (batch, C, H, W), and the objects of the batch (1, 1, G, 8), rows [image, class,
    instance, xmin, ymin, xmax, ymax, difficult] relative to the image; all -1, with G = 1, if it
    has none. Records without annotations give labels (batch,) instead. Pass i reads the records
    from i * batch_size on; the first follows the last.

    ``transform_param`` may have SSD's fields, whose steps come in this order: ``distort_param``,
    ``expand_param``, one of the parts that the ``batch_sampler`` of ``annotated_data_param`` draw,
    ``resize_param``, ``noise_param``, then crop (``crop_size``, or ``crop_h`` and ``crop_w``),
    ``mirror``, mean and ``scale``. ``emit_constraint`` says which objects remain in a part. Random
    choices are a pure function of the seed and the sample's number in the run.
    ``label_map_file`` has no effect. Source: SSD's AnnotatedData layer and data transformer; unlike
    them, no step stores the image as a JPEG.
    """

    batch_param = "data_param"
    param_fields = ("data_param", "transform_param")
    fork_fields = ("annotated_data_param", *(f"transform_param.{name}" for name in _ADDED))

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import MissingInput

        source = message.data_param.source
        if not source or os.path.exists(source):
            return []
        hints = (
            "LIST.txt: an image and its XML file per line, below ROOT/",
            "LABELMAP.prototxt: the names and numbers of the classes",
        )
        command = (
            "caffecompat convert-annoset --anno_type detection --label_map_file LABELMAP.prototxt "
            f"--encoded ROOT/ LIST.txt {shlex.quote(source)}"
        )
        return [MissingInput(source, "database", command, hints)]

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self._read_settings(message)
        super().setup(message, bottoms)
        self._set_label_shape()

    def state_shapes(self, message: Message, stated: Mapping[str, Shape]) -> None:
        self._read_settings(message)
        super().state_shapes(message, stated)
        self._set_label_shape()

    def _read_settings(self, message: Message) -> None:
        self.reader = None  # a net that refuses the settings closes its sources
        self.has_boxes = True
        p, added = message.transform_param, message.annotated_data_param
        known = ("batch_sampler", "label_map_file", "anno_type")
        refuse_other_fields(self, "annotated_data_param", added, known)
        for name, module in (
            ("resize_param", box_resize),
            ("noise_param", image_noise),
            ("distort_param", colour_distortion),
        ):
            refuse_other_fields(self, name, getattr(p, name), module.FIELDS)
        for sampler in added.batch_sampler:
            refuse_other_fields(self, "batch_sampler", sampler, batch_samplers.FIELDS)
        small = p.HasField("resize_param") and p.resize_param.resize_mode == (
            p.resize_param.FIT_SMALL_SIZE
        )
        self.check(
            not small or message.data_param.batch_size == 1,
            "resize_param: FIT_SMALL_SIZE gives images of different sizes; set batch_size: 1",
        )

    def _set_label_shape(self) -> None:
        if self.has_boxes and len(self.shapes) > 1:
            self.shapes[1] = _ONE_ROW

    def path(self, message: Message) -> str:
        return str(message.data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_annotated_reader

        options = self.context.options
        reader, self.has_boxes = open_annotated_reader(message, self.context.phase, options)
        return reader

    def shape_from_definition(self, message: Message) -> Shape:
        p = message.transform_param
        size = (p.crop_size, p.crop_size) if p.crop_size else (p.crop_h, p.crop_w)
        if not min(size):
            size = (p.resize_param.height, p.resize_param.width)
        if not min(size):
            self.refuse_unknown_shape(message, "transform_param has no resize_param and no crop")
        return (self.rows(message), 1 if p.force_gray else 3, *size)

    def read(self, index: int) -> Sequence[Array]:
        batch = self._batch(index, False)
        return [batch.data, self._labels(batch)][: self.count]

    def read_for_gpu(self, index: int) -> Sequence[Array | DeferredCrops]:
        batch = self._batch(index, True)
        return [batch.blob, self._labels(batch)][: self.count]

    def _labels(self, batch: Batch) -> Array:
        """The second top."""
        if not self.has_boxes:
            return batch.labels
        rows = [np.array(one, np.float32) for one in batch.labels]
        for image, own in enumerate(rows):
            own[:, 0] = image
        every = np.concatenate(rows)
        return every[None, None] if len(every) else np.full(_ONE_ROW, -1, np.float32)
