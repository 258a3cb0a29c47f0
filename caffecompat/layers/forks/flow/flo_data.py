"""FloData: optical flow from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from caffecompat.layers._base import Message, exactly, register
from caffecompat.layers._batch_source import BatchSource

if TYPE_CHECKING:
    from caffecompat.data.loader.prefetch import BatchReader


@register("FloData", fork="FlowNet")
class FloData(BatchSource):
    """Batches (batch, 2, H, W) of the flow in .flo files, x before y.

    ``source`` is a list of file names, separated by white space; ``root_folder`` is a prefix of
    each, without a separator. All files of a batch must have one size. ``shuffle`` and
    ``rand_skip`` are a pure function of the seed and the sample's number. Nothing else of
    ``image_data_param`` is read, and no ``transform_param``. Source: FlowNet's FloData layer.
    """

    tops = exactly(1)
    batch_param = "image_data_param"
    param_fields = ("image_data_param",)

    def path(self, message: Message) -> str:
        return str(message.image_data_param.source)

    def open(self, message: Message) -> BatchReader:
        from caffecompat.data.loader.open_readers import open_flow_reader

        return open_flow_reader(message, self.context.options)

    def shape_from_definition(self, message: Message) -> NoReturn:
        self.refuse_unknown_shape(message, "only the files say it")
