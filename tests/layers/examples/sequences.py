"""Layers over sequences."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, example_of, extents, fields


@example_of("RNN", "LSTM")
def recurrent(draw: Draw) -> Example:
    steps, streams, *rest = extents(draw, 3, 4, greatest=4)
    bottoms = [Bottom((steps, streams, *rest)), Bottom((steps, streams), "flags")]
    if draw(st.booleans()):
        bottoms.append(Bottom((streams, 3)))
    return Example(fields("recurrent_param", num_output=2), tuple(bottoms))


@example_of("LSTMUnit")
def lstm_unit(draw: Draw) -> Example:
    n, d = extents(draw, 2, 2)
    bottoms = (Bottom((1, n, d)), Bottom((1, n, 4 * d)), Bottom((1, n), "flags"))
    return Example("", bottoms, tops=2)
