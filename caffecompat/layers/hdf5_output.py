"""HDF5Output: writes two blobs to a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._batch_source import errors_at

if TYPE_CHECKING:
    from torch import Tensor


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its two bottoms as data sets ``data`` and ``label`` of ``file_name``.

    Shapes with fewer than 4 axes are extended with axes of extent 1. The first pass writes the
    file; a second pass is an error, because as in Caffe the file holds one pass only. The layer has
    no gradient, and it cannot be compiled or captured in a CUDA graph.
    Source: Caffe's HDF5Output layer.
    """

    bottoms = exactly(2)
    tops = exactly(0)
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.path = message.hdf5_output_param.file_name
        self.written = False
        self.check(bool(self.path), "hdf5_output_param has no file_name; give one")
        for name, shape in zip(message.bottom, bottoms, strict=True):
            self.check(
                len(shape) <= 4,
                f"bottom {name!r} is {format_shape(shape)}, expected at most 4 axes",
            )
        self.check(
            bottoms[0][:1] == bottoms[1][:1],
            f"the bottoms {format_shape(bottoms[0])} and {format_shape(bottoms[1])} differ in the "
            "number of rows",
        )

    def infer(self, *bottoms: Tensor) -> None:
        return None

    def forward(self, data: Tensor, labels: Tensor) -> None:
        from caffecompat.data.hdf5_writer import write_output

        self.check(
            not self.written,
            f"{self.path!r} holds the first pass already, and HDF5Output writes only one; run the "
            "net once, or save further batches in another way",
        )
        with errors_at(self.context.place):
            write_output(self.path, data.detach().cpu().numpy(), labels.detach().cpu().numpy())
        self.written = True
