"""LSTM of xuzhenqi and mini-caffe: the layer of caffe-lstm under the name of BVLC's."""

from __future__ import annotations

from caffecompat.layers._base import Message, register
from caffecompat.layers.forks.sequence._lstm import FlatLSTM


@register("LSTM", fork="xuzhenqi, mini-caffe")
class LSTMWithOwnParameter(FlatLSTM):
    """Long short-term memory with three parameters; see :class:`FlatLSTM`.

    It is meant where the layer has an ``lstm_param``; BVLC's LSTM has a ``recurrent_param``.
    Source: the LSTM layer of xuzhenqi's Caffe.
    """

    @classmethod
    def fits(cls, message: Message) -> bool:
        """Told by ``lstm_param``."""
        return bool(message.HasField("lstm_param")) and not message.HasField("recurrent_param")
