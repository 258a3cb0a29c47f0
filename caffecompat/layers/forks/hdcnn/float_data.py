"""FLOAT_DATA of HD-CNN: records of numbers, with a transform in data_param."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.data import Data

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader

_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")


@register("FLOAT_DATA", fork="HD-CNN")
class FloatData(Data):
    """As Data, for records with ``float_data``, in definitions of the first generation.

    ``scale``, ``mean_file``, ``crop_size`` and ``mirror`` are fields of ``data_param``, as they
    were then; ``mirror`` needs a crop. Tops: images (batch, C, H, W), and labels (batch,).
    Source: the FloatDataLayer of HD-CNN's Caffe.
    """

    param_fields = ("data_param", "transform_param")
    fork_fields = ()
    ignored_fields = ("data_param.rand_skip", "data_param.force_encoded_color")

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        return super().missing_files(_with_transform(message), phase, definition)

    def open(self, message: Message) -> BatchReader:
        self._check_mirror(message)
        return super().open(_with_transform(message))

    def shape_from_definition(self, message: Message) -> Shape:
        self._check_mirror(message)
        return super().shape_from_definition(_with_transform(message))

    def _check_mirror(self, message: Message) -> None:
        p = message.data_param
        self.check(bool(p.crop_size or not p.mirror), "data_param: mirror needs a crop_size, too")


def _with_transform(message: Message) -> Message:
    """A copy whose transform_param has what data_param says."""
    made = type(message)()
    made.CopyFrom(message)
    for name in _TRANSFORM:
        if message.data_param.HasField(name):
            setattr(made.transform_param, name, getattr(message.data_param, name))
    return made
