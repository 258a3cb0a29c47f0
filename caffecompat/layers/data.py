"""Data: images and labels from a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader


@register("Data")
class Data(BatchSource):
    """Batches of records of a database, transformed by ``transform_param``.

    Tops: images (batch, C, H, W), and labels (batch,) where a second top is asked for. Pass i
    holds the records i * batch_size and following, starting again at the first after the last;
    crops, flips, sizes and colours are a pure function of the seed and the running number of the
    sample. The first record of a batch decides its size. Source: Caffe's Data layer.

    In a net built for its shapes the database and the mean file may be missing if ``crop_size``
    says how large an image is; it has 3 channels unless ``force_gray`` or several ``mean_value``
    say otherwise.
    """

    batch_param = "data_param"
    ignored_fields = (
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
        from caffecompat.data.loader.open import open_reader

        return open_reader(message, self.context.phase, self.context.options)

    def promised_shape(self, message: Message) -> Shape:
        p = message.transform_param
        if not p.crop_size:
            self.unknown_shape(message, "transform_param has no crop_size")
        channels = 3 if p.force_color else 1 if p.force_gray else len(p.mean_value)
        if channels < 2 and not p.force_gray:
            channels = 3
            self.note(
                f"its files are missing, so images of 3 channels are assumed; state others with "
                f"--shape {message.top[0]}=1x{p.crop_size}x{p.crop_size}"
            )
        return (self.rows(message), channels, p.crop_size, p.crop_size)
