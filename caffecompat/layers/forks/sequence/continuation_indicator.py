"""ContinuationIndicator: the flags of sequences of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    from caffecompat.layers._base import Array


@register("ContinuationIndicator", fork="crnn.caffe")
class ContinuationIndicator(Source):
    """The top (time_step, batch_size): 0 at the first step of each stream, then 1.

    ``batch_size`` is the number of streams; on several ranks each has its part of them.
    Source: the ContinuationIndicator layer of crnn.caffe.
    """

    tops = exactly(1)
    fork_fields = ("continuation_indicator_param",)
    batch_param = "continuation_indicator_param"
    reads_shard = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.continuation_indicator_param
        self.check(
            p.time_step > 0 and p.batch_size > 0,
            f"time_step is {p.time_step} and batch_size {p.batch_size}; both must be positive",
        )
        streams = self.context.options.shard.rows(p.batch_size, self.context.place)
        self.shapes = [(p.time_step, len(streams))]

    def read(self, index: int) -> Sequence[Array]:
        import numpy as np

        flags = np.ones(self.shapes[0], np.float32)
        flags[0] = 0
        return [flags]
