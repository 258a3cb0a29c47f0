"""Layers that work on each element alone, and Eltwise."""

from __future__ import annotations

from functools import partial

from caffecompat.export.onnx_graph.layer import OnnxLayer, writers

FLOAT = 1


@writers.register("ReLU")
def relu(at: OnnxLayer) -> None:
    rectifier(at, at.layer.negative_slope, at.layer.limit)


def rectifier(at: OnnxLayer, slope: float, limit: float | None) -> None:
    """x, times ``slope`` below 0, and at most ``limit``."""
    if limit is not None:
        y = at.node("LeakyRelu", at.x, alpha=slope) if slope else at.node("Relu", at.x)
        at.write("Min", y, at.constant("limit", limit))
    elif slope == 0:
        at.write("Relu", at.x)
    else:
        at.write("LeakyRelu", at.x, alpha=slope)


@writers.register("PReLU")
def prelu(at: OnnxLayer) -> None:
    channels = at.arrays["weight"].size
    shape = (channels, *(1,) * (len(at.bottom.shape) - 2))
    at.write("PRelu", at.x, at.parameter("weight", shape))


@writers.register("ELU")
def elu(at: OnnxLayer) -> None:
    at.write("Elu", at.x, alpha=at.layer.alpha)


def _plain(operator: str, at: OnnxLayer) -> None:
    at.write(operator, at.x)


for _type, _operator in (
    ("Sigmoid", "Sigmoid"),
    ("TanH", "Tanh"),
    ("AbsVal", "Abs"),
    ("BNLL", "Softplus"),
):
    writers.register(_type)(partial(_plain, _operator))


@writers.register("Swish")
def swish(at: OnnxLayer) -> None:
    x = at.x
    if at.layer.beta != 1:
        x = at.node("Mul", x, at.constant("beta", at.layer.beta))
    at.write("Mul", at.x, at.node("Sigmoid", x))


@writers.register("Clip")
def clip(at: OnnxLayer) -> None:
    low, high = at.constant("min", at.layer.min), at.constant("max", at.layer.max)
    if at.layer.min <= at.layer.max:
        at.write("Clip", at.x, low, high)
    else:
        at.write("Max", at.node("Min", at.x, high), low)


@writers.register("Threshold")
def threshold(at: OnnxLayer) -> None:
    above = at.node("Greater", at.x, at.constant("threshold", at.layer.threshold))
    at.write("Cast", above, to=FLOAT)


@writers.register("Power")
def power(at: OnnxLayer) -> None:
    layer = at.layer
    if layer.is_constant:
        # Not a product with 0, which infinity and NaN do not become.
        at.write("Expand", at.constant("value", layer.constant()), at.node("Shape", at.x))
        return
    steps = [("Mul", layer.scale, 1.0), ("Add", layer.shift, 0.0), ("Pow", layer.power, 1.0)]
    _write_steps(at, at.x, [(name, value) for name, value, neutral in steps if value != neutral])


@writers.register("Exp")
def exp(at: OnnxLayer) -> None:
    x = at.x
    if at.layer.inner != 1:
        x = at.node("Mul", x, at.constant("inner", at.layer.inner))
    steps = [] if at.layer.outer == 1 else [("Mul", at.layer.outer)]
    if not steps:
        at.write("Exp", x)
        return
    _write_steps(at, at.node("Exp", x), steps)


@writers.register("Log")
def log(at: OnnxLayer) -> None:
    layer = at.layer
    x = at.x
    if layer.scale != 1:
        x = at.node("Mul", x, at.constant("scale", layer.scale))
    if layer.shift != 0:
        x = at.node("Add", x, at.constant("shift", layer.shift))
    if layer.outer == 1:
        at.write("Log", x)
        return
    at.write("Mul", at.node("Log", x), at.constant("outer", layer.outer))


def _write_steps(at: OnnxLayer, x: str, steps: list[tuple[str, float]]) -> None:
    """Applies operators with a constant one after the other; the last one makes the top."""
    if not steps:
        at.write("Identity", x)
        return
    for operator, value in steps[:-1]:
        x = at.node(operator, x, at.constant(operator, value))
    operator, value = steps[-1]
    at.write(operator, x, at.constant(operator, value))


@writers.register("Eltwise")
def eltwise(at: OnnxLayer) -> None:
    operators = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}
    operator = operators[at.layer.operation]
    terms = [bottom.name for bottom in at.bottoms]
    if at.layer.operation == "SUM":
        terms = [
            term if factor == 1 else at.node("Mul", term, at.constant("coeff", factor))
            for term, factor in zip(terms, at.layer.coefficients, strict=True)
        ]
    if len(terms) == 1:
        at.write("Identity", *terms)
        return
    total = terms[0]
    for term in terms[1:-1]:
        total = at.node(operator, total, term)
    at.write(operator, total, terms[-1])
