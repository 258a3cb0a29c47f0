"""Data: images and labels from a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._batch_source import RESIZING_FIELDS, BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader


@register("Data")
class Data(BatchSource):
    """Batches of records of a database, transformed by ``transform_param``.

    Tops: images (batch, C, H, W), and labels (batch,) if there is a second top. Pass i reads the
    records from i * batch_size on and continues with the first record after the last. Crops,
    flips, sizes and colours are a pure function of the seed and the sample's number in the run.
    The first record of a batch decides its size. With the forks' ``shuffle`` each pass has an
    order of its own, a pure function of the seed. HD-CNN's ``selective_list`` names a file with a
    key and a label in each line; only these records are read, in this order, with these labels.
    Fields with which NVIDIA's Caffe and HD-CNN's resize images before the crop have their effect.
    Source: Caffe's Data layer.

    In a net with ``shapes_only`` the database and the mean file may be missing if ``crop_size``
    gives the image size; an image has 3 channels unless ``force_gray`` or several ``mean_value``
    are given.
    """

    batch_param = "data_param"
    fork_fields = ("data_param.shuffle", "data_param.selective_list", *RESIZING_FIELDS)
    ignored_fields: ClassVar[tuple[str, ...]] = (
        "data_param.crop_size",
        "data_param.force_encoded_color",
        "data_param.mean_file",
        "data_param.mirror",
        "data_param.rand_skip",
        "data_param.scale",
    )

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import mean_of_database, missing_database

        found = [missing_database(message, phase), mean_of_database(message, phase, definition)]
        return [missing for missing in found if missing is not None]

    def path(self, message: Message) -> str:
        return str(message.data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_reader

        return open_reader(message, self.context.phase, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        p = message.transform_param
        if not p.crop_size:
            self.refuse_unknown_shape(message, "transform_param has no crop_size")
        channels = 3 if p.force_color else 1 if p.force_gray else len(p.mean_value)
        if channels < 2 and not p.force_gray:
            channels = 3
            self.note(
                f"its files are missing, so 3 channels are assumed; state another number with "
                f"--shape {message.top[0]}=1x{p.crop_size}x{p.crop_size}"
            )
        return (self.rows(message), channels, p.crop_size, p.crop_size)
