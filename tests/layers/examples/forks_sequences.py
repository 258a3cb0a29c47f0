"""Fork layers for sequences."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.layers.strategies import Bottom, Draw, Example, axis_of, example_of, extents, fields


@example_of("Transpose")
def transpose(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    order = draw(st.permutations(range(len(shape))))
    return Example(fields("transpose_param", dim=list(order)), (Bottom(shape),))


@example_of("Reverse")
def reverse(draw: Draw) -> Example:
    shape = extents(draw, 1, 4)
    return Example(fields("reverse_param", axis=axis_of(draw, shape)), (Bottom(shape),))


@example_of("Lstm", "LSTM (xuzhenqi, mini-caffe)")
def flat_lstm(draw: Draw) -> Example:
    steps, streams, inputs = 3, draw(st.integers(1, 2)), draw(st.integers(1, 3))
    clip = draw(st.sampled_from([0, 50]))
    size = draw(st.integers(1, 3))
    flags = (Bottom((steps * streams,), "flags"),) if draw(st.booleans()) else ()
    if draw(st.booleans()):
        text = fields("lstm_param", num_output=size, clipping_threshold=clip)
        return Example(text, (Bottom((steps, streams, inputs)), *flags))
    text = fields("lstm_param", num_output=size, clipping_threshold=clip, batch_size=streams)
    return Example(text, (Bottom((steps * streams, inputs)), *flags))


@example_of("CTCLoss")
def ctc_loss(draw: Draw) -> Example:
    steps, streams, classes = draw(st.integers(2, 4)), draw(st.integers(1, 3)), 4
    text = fields(
        "ctc_loss_param",
        ctc_merge_repeated=draw(st.booleans()),
        output_delay=draw(st.integers(0, 1)),
        blank_index=draw(st.sampled_from([None, 0, 2])),
    )
    flags = Bottom((steps, streams), "flags")
    # Labels fill all steps, so that some sequences are impossible.
    return Example(text, (Bottom((steps, streams, classes)), flags, Bottom((steps, streams))))


@example_of("CtcLoss")
def ctc_loss_crnn(draw: Draw) -> Example:
    steps, streams, classes = 5, draw(st.integers(1, 3)), 4
    text = fields(
        "ctc_loss_param",
        blank_label=draw(st.integers(0, 3)),
        alphabet_size=classes,
        time_step=draw(st.integers(3, 5)),
    )
    labels = Bottom((streams, 3), "labels", classes)
    return Example(text, (Bottom((steps, streams, classes)), labels))


@example_of("WarpCTCLoss")
def warp_ctc_loss(draw: Draw) -> Example:
    steps, streams, classes = 5, draw(st.integers(1, 3)), 4
    text = fields("ctc_loss_param", blank_index=draw(st.integers(0, 3)))
    labels = Bottom((streams, 3), "flags")
    return Example(text, (Bottom((steps, streams, classes)), labels))


@example_of("CTCGreedyDecoder")
def ctc_greedy_decoder(draw: Draw) -> Example:
    steps, streams = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    text = fields("ctc_decoder_param", ctc_merge_repeated=draw(st.booleans()))
    flags = Bottom((steps, streams), "flags")
    bottoms = (Bottom((steps, streams, 4)), flags)
    if draw(st.booleans()):
        return Example(text, (*bottoms, flags), tops=draw(st.integers(1, 3)))
    return Example(text, bottoms, tops=draw(st.integers(1, 2)))


@example_of("LabelsequenceAccuracy")
def labelsequence_accuracy(draw: Draw) -> Example:
    n, t, c = draw(st.integers(1, 3)), 4, 3
    return Example("", (Bottom((n, t, c)), Bottom((n, 2), "flags")))
