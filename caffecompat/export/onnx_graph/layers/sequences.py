"""Recurrent layers, step by step where ``cont`` says so, which ONNX's own operators do not know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from caffecompat.export.onnx_graph.coordinates import part
from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

FLOAT, INT64 = 1, 7


@writers.register("LSTM")
def lstm(at: OnnxLayer) -> None:
    """Without ``expose_hidden`` every run begins with a state of zeros."""
    weight_h = at.parameter("weight_h")

    def step(gates: str, state: Sequence[str]) -> list[str]:
        h, c = state
        return [*reversed(_unit(at, c, at.node("Gemm", h, weight_h, gates, transB=1)))]

    hidden, state = _steps(at, 4 * at.layer.size, 2, step)
    at.write("Concat", *hidden, axis=0)
    _write_state(at, state)


@writers.register("RNN")
def rnn(at: OnnxLayer) -> None:
    """As for LSTM; the top is a function of the hidden values."""
    weight_h = at.parameter("weight_h")

    def step(x: str, state: Sequence[str]) -> list[str]:
        return [at.node("Tanh", at.node("Gemm", state[0], weight_h, x, transB=1))]

    hidden, state = _steps(at, at.layer.size, 1, step)
    rows = at.node("Reshape", at.node("Concat", *hidden, axis=0), _shape(at, -1, at.layer.size))
    output = at.node("Gemm", rows, at.parameter("weight_o"), at.parameter("bias_o"), transB=1)
    at.write("Reshape", at.node("Tanh", output), _shape(at, *at.top.shape))
    _write_state(at, state)


@writers.register("LSTMUnit")
def lstm_unit(at: OnnxLayer) -> None:
    c, gates, cont = (bottom.name for bottom in at.bottoms)
    kept = at.node("Mul", c, at.node("Unsqueeze", cont, at.integers("axis", [2])))
    new_c, h = _unit(at, kept, gates)
    at.write("Identity", new_c)
    at.write("Identity", h, top=1)


def _unit(at: OnnxLayer, c: str, gates: str) -> tuple[str, str]:
    """c and h after a step; ``c`` is already multiplied by cont. Gates: i, f, o, g."""
    size = at.bottom.shape[-1] if at.layer.type == "LSTMUnit" else at.layer.size
    i, f, o, g = (part(at, gates, -1, gate * size, (gate + 1) * size) for gate in range(4))
    kept = at.node("Mul", at.node("Sigmoid", f), c)
    new = at.node("Mul", at.node("Sigmoid", i), at.node("Tanh", g))
    c = at.node("Add", kept, new)
    return c, at.node("Mul", at.node("Sigmoid", o), at.node("Tanh", c))


def _steps(
    at: OnnxLayer, size: int, states: int, step: Callable[[str, Sequence[str]], list[str]]
) -> tuple[list[str], list[str]]:
    """The hidden values (1, N, size) of each step, and the state (N, size) after the last."""
    for bottom in at.bottoms:
        at.need_fixed(bottom, range(len(bottom.shape)))
    length, batch = at.bottom.shape[:2]
    projected = _projected(at, size)
    cont = at.bottoms[1].name
    state = _first_state(at, batch, states)
    hidden = []
    for t in range(length):
        index = at.constant("step", t, np.int64)
        keep = at.node("Reshape", at.node("Gather", cont, index, axis=0), _shape(at, batch, 1))
        kept = [at.node("Mul", part, keep) for part in state]
        state = step(at.node("Gather", projected, index, axis=0), kept)
        hidden.append(at.node("Reshape", state[0], _shape(at, 1, batch, at.layer.size)))
    return hidden, state


def _projected(at: OnnxLayer, size: int) -> str:
    """All steps' inputs times their weights (T, N, size)."""
    length, batch = at.bottom.shape[:2]
    rows = at.node("Flatten", at.x, axis=2)
    product = at.node("Gemm", rows, at.parameter("weight_x"), at.parameter("bias"), transB=1)
    x = at.node("Reshape", product, _shape(at, length, batch, size))
    if not at.layer.static:
        return x
    static = at.node("Flatten", at.bottoms[2].name, axis=1)
    share = at.node("Gemm", static, at.parameter("weight_x_static"), transB=1)
    return at.node("Add", x, share)


def _first_state(at: OnnxLayer, batch: int, states: int) -> list[str]:
    shape = (batch, at.layer.size)
    if not at.layer.exposed:
        return [at.constant("zero", np.zeros(shape))] * states
    given = at.bottoms[-states:]
    return [at.node("Reshape", bottom.name, _shape(at, *shape)) for bottom in given]


def _write_state(at: OnnxLayer, state: Sequence[str]) -> None:
    if at.layer.exposed:
        for index, part in enumerate(state, 1):
            at.write("Reshape", part, _shape(at, *at.tops[index].shape), top=index)


def _shape(at: OnnxLayer, *extents: int) -> str:
    return at.integers("shape", extents)


@writers.register("CTCGreedyDecoder")
def ctc_greedy_decoder(at: OnnxLayer) -> None:
    """The labels that the best class of each step writes, moved to the front of each stream."""
    layer = at.layer
    if layer.judges:
        at.refuse("the comparison with true labels (its third bottom) is not written")
    at.need_fixed(at.bottom, [0])
    steps, classes = at.bottom.shape[0], at.bottom.shape[2]
    best = at.node("ArgMax", at.x, axis=2, keepdims=0)
    inside = _inside_first_sequence(at, steps)
    blank = at.constant("blank", layer.blank if layer.blank >= 0 else classes - 1, np.int64)
    kept = at.node("And", inside, at.node("Not", at.node("Equal", best, blank)))
    if layer.merges:
        kept = at.node("And", kept, _new_class(at, best, steps))
    _write_packed(at, best, kept, steps)
    if layer.scores:
        values = at.node("ReduceMax", at.x, at.integers("classes", [2]), keepdims=0)
        counted = at.node("Mul", values, at.node("Cast", inside, to=FLOAT))
        total = at.node("ReduceSum", counted, at.integers("steps", [0]), keepdims=0)
        negative = at.node("Neg", total)
        at.write("Reshape", negative, _shape(at, -1, 1, 1, 1), top=1)


def _inside_first_sequence(at: OnnxLayer, steps: int) -> str:
    """(T, N) bool: the steps before the second one with the flag 0; the first always counts."""
    flags = at.node("Reshape", at.bottoms[1].name, _shape(at, steps, -1))
    # A flag is 0 if it is below 0.5, rounded as the layer does.
    whole = at.node("Cast", at.node("Add", flags, at.constant("half", 0.5)), to=INT64)
    begins = at.node("Equal", whole, at.constant("begins", 0, np.int64))
    later = at.constant("later", np.arange(steps).reshape(-1, 1) > 0, np.int64)
    ends = at.node("Mul", at.node("Cast", begins, to=INT64), later)
    so_far = at.node("CumSum", ends, at.constant("steps", 0, np.int64))
    return at.node("Equal", so_far, at.constant("none", 0, np.int64))


def _new_class(at: OnnxLayer, best: str, steps: int) -> str:
    """(T, N) bool: where the class (T, N) is not that of the step before."""
    before = at.node(
        "Pad", best, at.integers("pads", [1, 0, 0, 0]), at.constant("no class", -1, np.int64)
    )
    bounds = [at.integers(what, [step]) for what, step in (("start", 0), ("end", steps))]
    before = at.node("Slice", before, *bounds, at.integers("axis", [0]))
    return at.node("Not", at.node("Equal", best, before))


def _write_packed(at: OnnxLayer, best: str, kept: str, steps: int) -> None:
    """Writes the kept classes at the front of each stream (N, T, 1, 1), then -1."""
    order = at.node("CumSum", at.node("Cast", kept, to=INT64), at.constant("steps", 0, np.int64))
    # What is not kept goes into a row that is cut off.
    row = at.node(
        "Where",
        kept,
        at.node("Sub", order, at.constant("first", 1, np.int64)),
        at.constant("cut off", steps, np.int64),
    )
    longer = at.node(
        "Pad", best, at.integers("pads", [0, 0, 1, 0]), at.constant("no class", -1, np.int64)
    )
    empty = at.node(
        "Sub",
        at.node("Mul", longer, at.constant("zero", 0, np.int64)),
        at.constant("one", 1, np.int64),
    )
    moved = at.node("ScatterElements", empty, row, best, axis=0)
    bounds = [at.integers(what, [step]) for what, step in (("start", 0), ("end", steps))]
    front = at.node("Slice", moved, *bounds, at.integers("axis", [0]))
    labels = at.node("Transpose", at.node("Cast", front, to=FLOAT), perm=[1, 0])
    at.write("Reshape", labels, _shape(at, -1, steps, 1, 1))


@writers.register("Lstm")
@writers.register("xuzhenqi, mini-caffe LSTM")
def flat_lstm(at: OnnxLayer) -> None:
    """ONNX's LSTM where no flags say that a sequence begins; else step by step.

    Either way each run begins with a state of zeros.
    """
    if len(at.bottoms) == 1:
        _whole_sequences(at)
        return
    at.need_fixed(at.bottom, range(len(at.bottom.shape)))
    streams = at.layer.streams or at.bottom.shape[1]
    steps, size = prod(at.bottoms[1].shape) // streams, at.layer.size
    inputs = at.parameter("weight_x")
    rows = at.node("Reshape", at.x, _shape(at, steps * streams, at.arrays["weight_x"].shape[1]))
    projected = at.node("Gemm", rows, inputs, at.parameter("bias"), transB=1)
    gates = at.node("Reshape", projected, _shape(at, steps, streams, 4 * size))
    flags = at.node("Reshape", at.bottoms[1].name, _shape(at, steps, streams, 1))
    zero = at.node("Equal", flags, at.constant("begins", 0))
    going_on = at.node("Cast", at.node("Not", zero), to=FLOAT)
    h = c = at.constant("state", np.zeros((streams, size)))
    hidden = []
    for t in range(steps):
        index = at.constant("step", t, np.int64)
        keep = at.node("Gather", going_on, index, axis=0)
        share = at.node(
            "Gemm",
            at.node("Mul", h, keep),
            at.parameter("weight_h"),
            at.node("Gather", gates, index, axis=0),
            transB=1,
        )
        c, h = _unit(at, at.node("Mul", c, keep), share)
        hidden.append(h)
    joined = hidden[0] if steps == 1 else at.node("Concat", *hidden, axis=0)
    at.write("Reshape", joined, _shape(at, *at.top.shape))


def _whole_sequences(at: OnnxLayer) -> None:
    """ONNX has the gates in the order i, o, f, g, and two biases."""
    size = at.layer.size
    x = at.x
    if at.layer.streams:
        x = at.node("Reshape", x, _shape(at, -1, at.layer.streams, at.arrays["weight_x"].shape[1]))
    elif len(at.bottom.shape) > 3:
        at.refuse("more than three axes are not written")
    order = [0, 2, 1, 3]

    def ordered(name: str) -> np.ndarray:
        gates = at.arrays[name].reshape(4, size, -1)[order]
        return np.ascontiguousarray(gates.reshape(1, 4 * size, -1))

    bias = ordered("bias").reshape(1, -1)
    h, _ = at.node_with_two(
        "LSTM",
        x,
        at.constant("weight_x", ordered("weight_x")),
        at.constant("weight_h", ordered("weight_h")),
        at.constant("bias", np.concatenate([bias, np.zeros_like(bias)], 1)),
        hidden_size=size,
    )
    one_direction = at.node("Squeeze", h, at.integers("direction", [1]))
    if at.layer.streams:
        at.write("Reshape", one_direction, _shape(at, -1, size))
    else:
        at.write("Identity", one_direction)
