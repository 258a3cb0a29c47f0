"""WindowData: windows of images, for training R-CNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.advice import MissingInput
    from caffecompat.data.loader.prefetch import BatchReader


@register("WindowData")
class WindowData(BatchSource):
    """The windows of a window file; in each batch background windows precede foreground windows.

    Tops: images (batch, 3, crop_size, crop_size) and labels (batch,). ``scale`` of
    ``window_data_param`` is used, that of ``transform_param`` is not; pixels outside of an image
    are 0. The choice of a window and its flip are a pure function of the seed and the sample's
    number in the run. Source: Caffe's WindowData layer.
    """

    tops = exactly(2)
    batch_param = "window_data_param"

    @classmethod
    def missing_files(cls, message: Message, phase: str, definition: Message) -> list[MissingInput]:
        from caffecompat.data.advice import mean_of_windows

        # No tool creates a window file; opening a missing one raises an error.
        mean = mean_of_windows(message)
        return [] if mean is None else [mean]

    def path(self, message: Message) -> str:
        return str(message.window_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_window_reader

        return open_window_reader(message, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        crop = message.transform_param.crop_size
        self.check(crop > 0, "transform_param: crop_size is 0; WindowData needs one")
        return (self.rows(message), 3, crop, crop)
