"""RNN, LSTM and LSTMUnit, step by step: ONNX's own operators do not know ``cont``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers


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
    i, f, o, g = (_part(at, gates, gate * size, (gate + 1) * size) for gate in range(4))
    kept = at.node("Mul", at.node("Sigmoid", f), c)
    new = at.node("Mul", at.node("Sigmoid", i), at.node("Tanh", g))
    c = at.node("Add", kept, new)
    return c, at.node("Mul", at.node("Sigmoid", o), at.node("Tanh", c))


def _part(at: OnnxLayer, x: str, start: int, end: int) -> str:
    bounds = [at.integers(what, [at_]) for what, at_ in (("start", start), ("end", end))]
    return at.node("Slice", x, *bounds, at.integers("axis", [-1]))


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
