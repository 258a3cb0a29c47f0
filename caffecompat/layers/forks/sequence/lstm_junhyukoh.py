"""Lstm: the LSTM of junhyukoh's caffe-lstm and of CTPN."""

from __future__ import annotations

from caffecompat.layers._base import register
from caffecompat.layers.forks.sequence._lstm import FlatLSTM


@register("Lstm", fork="caffe-lstm, CTPN")
class Lstm(FlatLSTM):
    """Long short-term memory with three parameters; see :class:`FlatLSTM`.

    Source: the Lstm layers of junhyukoh's caffe-lstm and of CTPN.
    """
