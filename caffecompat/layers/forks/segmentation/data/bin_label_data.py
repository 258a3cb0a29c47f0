"""BinLabelData: arrays with a grid of labels, as the dilation nets read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.segmentation.data._sliced_label_source import SlicedLabelSource

if TYPE_CHECKING:
    from caffecompat.data.loader.prefetch import BatchReader


@register("BinLabelData", fork="dilation")
class BinLabelData(SlicedLabelSource):
    """Batches of arrays, such as another net's scores, and of labels at some pixels.

    Tops: arrays (batch, C, H, W) and labels (batch, 1, dim, dim). ``bin_list_path`` and
    ``label_list_path`` list binary files and gray label images, behind ``bin_dir`` and
    ``label_dir``. A binary file has five 32-bit integers (5 for float32, 3, channels, height,
    width) and then the values; the arrays of a batch have one shape. Of arrays the places of
    ``bin_slice`` are used, or all, and of label images the pixels ``offset + stride n`` of
    ``label_slice``, 255 beyond the image. ``mirror``, true by default, flips half of the samples,
    in TEST too. Random choices are a pure function of the seed and the sample's number.
    Source: the BinLabelData layer of Yu and Koltun's Caffe.
    """

    batch_param = "bin_label_data_param"
    first_list = "bin_list_path"
    param_fields = ()
    fork_fields = ("bin_label_data_param",)

    def _read_settings(self, message: Message) -> None:
        p = message.bin_label_data_param
        self.grid = self.grid_of("label_slice", p.label_slice)
        part = p.bin_slice
        self.places = None
        if len(part.dim) + len(part.stride) + len(part.offset):
            self.places = self.grid_of("bin_slice", part)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_bin_reader

        p = message.bin_label_data_param
        return open_bin_reader(p, self.grid, self.places, self.context.options)

    def shape_from_definition(self, message: Message) -> Shape:
        self.refuse_unknown_shape(message, "the shape of an array stands in its file")
