"""Functions of single elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from caffecompat.export.torch_import.operator import Call, operators


def _plain(call: Call, kind: str, bottom: str | None = None, end: str = "") -> Any:
    return call.add(kind, [call.bottom("self") if bottom is None else bottom], end=end)


@operators.register("aten.relu")
def relu(call: Call) -> str:
    return str(_plain(call, "ReLU").name)


@operators.register("aten.leaky_relu")
def leaky_relu(call: Call) -> str:
    message = _plain(call, "ReLU")
    message.relu_param.negative_slope = call.arguments["negative_slope"]
    return str(message.name)


@operators.register("aten.prelu")
def prelu(call: Call) -> str:
    weight = call.values("weight")
    assert weight is not None
    channels = call.bottom_shape("self")[1]
    shared = weight.size == 1 and channels != 1
    message = call.add("PReLU", [call.bottom("self")], weight.reshape(() if shared else (-1,)))
    if shared:
        message.prelu_param.channel_shared = True
    return str(message.name)


@operators.register("aten.elu")
def elu(call: Call) -> str:
    scales = (call.arguments["scale"], call.arguments["input_scale"])
    call.check(scales == (1, 1), "Caffe's ELU has no scales (SELU and CELU have them)")
    message = _plain(call, "ELU")
    message.elu_param.alpha = call.arguments["alpha"]
    return str(message.name)


@operators.register("aten.sigmoid")
def sigmoid(call: Call) -> str:
    return str(_plain(call, "Sigmoid").name)


@operators.register("aten.tanh")
def tanh(call: Call) -> str:
    return str(_plain(call, "TanH").name)


@operators.register("aten.silu")
def silu(call: Call) -> str:
    """x sigmoid(x), as two layers that every Caffe has."""
    gate = _plain(call, "Sigmoid", end="_sigmoid")
    message = call.add("Eltwise", [call.bottom("self"), gate.name])
    message.eltwise_param.operation = message.eltwise_param.PROD
    return str(message.name)


@operators.register("aten.hardtanh")
def hardtanh(call: Call) -> str:
    return _clip(call, call.arguments["min_val"], call.arguments["max_val"])


@operators.register("aten.relu6")
def relu6(call: Call) -> str:
    return _clip(call, 0, 6)


@operators.register("aten.clamp")
@operators.register("aten.clamp_max")
@operators.register("aten.clamp_min")
def clamp(call: Call) -> str:
    lowest, highest = call.arguments.get("min"), call.arguments.get("max")
    call.check(
        all(bound is None or isinstance(bound, (int, float)) for bound in (lowest, highest)),
        "its bounds are tensors, where Caffe's Clip needs numbers",
    )
    if highest is None and lowest == 0:
        return str(_plain(call, "ReLU").name)
    limits = (-np.inf if lowest is None else lowest, np.inf if highest is None else highest)
    largest = float(np.finfo(np.float32).max)
    return _clip(call, max(limits[0], -largest), min(limits[1], largest))


def _clip(call: Call, lowest: float, highest: float) -> str:
    message = _plain(call, "Clip")
    message.clip_param.min, message.clip_param.max = lowest, highest
    return str(message.name)


def _hard_sigmoid(call: Call, end: str) -> str:
    """clip(x / 6 + 1 / 2, 0, 1)."""
    line = _plain(call, "Power", end=f"{end}_line")
    line.power_param.scale, line.power_param.shift = 1 / 6, 0.5
    message = _plain(call, "Clip", line.name, end)
    message.clip_param.min, message.clip_param.max = 0, 1
    return str(message.name)


@operators.register("aten.hardsigmoid")
def hardsigmoid(call: Call) -> str:
    return _hard_sigmoid(call, "")


@operators.register("aten.hardswish")
def hardswish(call: Call) -> str:
    gate = _hard_sigmoid(call, "_gate")
    message = call.add("Eltwise", [call.bottom("self"), gate])
    message.eltwise_param.operation = message.eltwise_param.PROD
    return str(message.name)


@operators.register("aten.softplus")
def softplus(call: Call) -> str:
    """log(1 + exp(x)). Beyond its threshold torch returns x, which float32 cannot tell from it."""
    beta, threshold = call.arguments["beta"], call.arguments["threshold"]
    call.check(
        beta == 1 and threshold >= 20,
        f"its beta is {beta:g} and its threshold {threshold:g}; Caffe's BNLL has beta 1 and no "
        "threshold",
    )
    return str(_plain(call, "BNLL").name)


@operators.register("aten.exp")
def exponential(call: Call) -> str:
    return str(_plain(call, "Exp").name)


@operators.register("aten.log")
def logarithm(call: Call) -> str:
    return str(_plain(call, "Log").name)


@operators.register("aten.abs")
def absolute(call: Call) -> str:
    return str(_plain(call, "AbsVal").name)


@operators.register("aten.softmax")
@operators.register("aten._softmax")
def softmax(call: Call) -> str:
    message = _plain(call, "Softmax")
    axis = call.arguments["dim"] % len(call.shape)
    if axis != 1:
        message.softmax_param.axis = axis
    return str(message.name)
