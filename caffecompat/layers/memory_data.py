"""MemoryData: arrays in memory that the user sets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    import numpy as np

    from caffecompat.layers._base import Array

log = logging.getLogger(__name__)


@register("MemoryData")
class MemoryData(Source):
    """Batches of the arrays given to :meth:`set`; the first batch follows the last.

    Tops: data (batch_size, channels, height, width), and labels, which are (batch_size,) when the
    net is built and (batch_size, 1, 1, 1) in each pass, as in Caffe. There is no transform. On
    several ranks, :meth:`set` takes all rows, and each rank reads its slice of each batch.
    With the list ``dim`` of Caffe Neural the data have that shape, and there may be one top only.
    CaffeOnSpark's ``source``, from which Spark feeds the layer, is not read.
    Source: Caffe's MemoryData layer.
    """

    param_fields = ("transform_param",)
    tops = between(1, 2)
    fork_fields = ("memory_data_param.dim",)
    batch_param = "memory_data_param"
    reads_shard = True
    filled_by_user = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.transforms.transform import refuse_extensions

        p = message.memory_data_param
        self.shape: Shape = tuple(p.dim) or (p.batch_size, p.channels, p.height, p.width)
        self.check(
            len(message.top) > 1 or bool(p.dim),
            "it takes 2 top(s), found 1; only with dim it may have 1",
        )
        self.check(
            min(self.shape) > 0,
            f"memory_data_param says dim {format_shape(self.shape)}; all must be positive"
            if p.dim
            else f"memory_data_param says batch_size {p.batch_size}, channels {p.channels}, height "
            f"{p.height}, width {p.width}; all four must be given and positive",
        )
        if message.HasField("transform_param"):
            with errors_at(self.context.place):
                refuse_extensions(message.transform_param, "MemoryData")
            log.warning("%s: transform_param has no effect on arrays", self.context.place)
        if p.HasField("source"):
            self.note(
                f"source {p.source!r} names data for CaffeOnSpark and is not read; set the layer's "
                "data with its method set(data, labels)"
            )
        self.slice = self.context.options.shard.rows(self.shape[0], self.context.place)
        self.shapes = [(len(self.slice), *self.shape[1:]), (len(self.slice),)][: len(message.top)]
        self.data: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.first = 0
        self.following = 0

    @classmethod
    def batch_size(cls, message: Message) -> int | None:
        p = message.memory_data_param
        return int(p.dim[0]) if p.dim else super().batch_size(message)

    @classmethod
    def scale_batch(cls, message: Message, factor: Fraction) -> None:
        p = message.memory_data_param
        if p.dim:
            p.dim[0] = int(p.dim[0] * factor)
        else:
            super().scale_batch(message, factor)

    def set(self, data: Array, labels: Array) -> None:
        """Sets the layer's data; the next pass begins with the first row.

        Args:
            data: rows x channels x height x width, any numeric type; the number of rows is a
                multiple of the batch size. A float32 array is not copied.
            labels: one value for each row, in any shape.

        Raises:
            LayerError: the shapes do not fit.
        """
        import numpy as np

        rows = np.ascontiguousarray(data, np.float32)
        values = np.ascontiguousarray(labels, np.float32).reshape(-1)
        wanted = f"rowsx{format_shape(self.shape[1:])}"
        self.check(
            rows.shape[1:] == self.shape[1:],
            f"the data are {format_shape(rows.shape)}, expected {wanted}",
        )
        self.check(
            len(rows) == len(values),
            f"there are {len(rows)} rows of data but {len(values)} labels",
        )
        self.check(
            len(rows) > 0 and len(rows) % self.shape[0] == 0,
            f"{len(rows)} rows were given, expected a multiple of the batch size {self.shape[0]}",
        )
        self.data, self.labels, self.first = rows, values, self.following

    def read(self, index: int) -> Sequence[Array]:
        if self.data is None or self.labels is None:
            self.refuse(
                "it has no data yet; set them from Python, with its method set(data, labels) or "
                "in pycaffe net.set_input_arrays(data, labels)"
            )
        self.following = index + 1
        count = self.shape[0]
        start = (index - self.first) * count % len(self.data)
        rows = slice(start + self.slice.start, start + self.slice.stop)
        labels = self.labels[rows].reshape(-1, *(1,) * (len(self.shape) - 1))
        return [self.data[rows].copy(), labels.copy()][: len(self.shapes)]
