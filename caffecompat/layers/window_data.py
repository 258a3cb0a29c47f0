"""WindowData: windows of images, for fine-tuning as R-CNN does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader


@register("WindowData")
class WindowData(BatchSource):
    """Windows that a window file lists, background ones first, then foreground ones.

    Tops: images (batch, 3, crop_size, crop_size) and labels (batch,). ``scale`` is taken from
    ``window_data_param`` and not from ``transform_param``; what lies outside an image stays 0.
    Which window comes when, and its flip, is a pure function of the seed and the running number of
    the sample. Source: Caffe's WindowData layer.
    """

    tops = exactly(2)
    batch_param = "window_data_param"

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import mean_of_windows

        # No tool makes a window file; opening it tells what is wrong.
        mean = mean_of_windows(message)
        return [] if mean is None else [mean]

    def path(self, message: Message) -> str:
        return str(message.window_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open import open_window_reader

        return open_window_reader(message, self.context.options)

    def promised_shape(self, message: Message) -> Shape:
        crop = message.transform_param.crop_size
        self.check(crop > 0, "transform_param: crop_size is 0; WindowData needs one")
        return (self.rows(message), 3, crop, crop)
