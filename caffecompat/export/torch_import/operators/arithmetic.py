"""Sums and products of blobs, numbers and parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from caffecompat.export.torch_import.operator import Call, operators, shape_of


@operators.register("aten.add")
def add(call: Call) -> str:
    return _sum(call, 1.0)


@operators.register("aten.sub")
def subtract(call: Call) -> str:
    return _sum(call, -1.0)


@operators.register("aten.rsub")
def subtract_from(call: Call) -> str:
    """other - alpha self."""
    x, y, alpha = (call.arguments[name] for name in ("self", "other", "alpha"))
    if isinstance(y, (int, float)):
        return _power(call, scale=-alpha, shift=y)
    return _weighted_sum(call, x, y, -alpha, 1)


@operators.register("aten.mul")
def multiply(call: Call) -> str:
    x, y = call.arguments["self"], call.arguments["other"]
    if isinstance(y, (int, float)):
        return _power(call, scale=y)
    if call.is_constant(x):
        x, y = y, x
    if call.is_constant(y):
        return with_parameter(call, "Scale", x, y)
    if shape_of(x) != shape_of(y):
        return _gated(call, x, y)
    message = call.add("Eltwise", [call.blob(x), call.blob(y)])
    message.eltwise_param.operation = message.eltwise_param.PROD
    return str(message.name)


@operators.register("aten.neg")
def negative(call: Call) -> str:
    return _power(call, scale=-1)


def _sum(call: Call, sign: float) -> str:
    x, y = call.arguments["self"], call.arguments["other"]
    factor = sign * call.arguments.get("alpha", 1)
    if isinstance(y, (int, float)):
        return _power(call, shift=factor * y)
    if call.is_constant(y):
        return with_parameter(call, "Bias", x, y, lambda values: factor * values)
    if call.is_constant(x):
        bottom = call.blob(y)
        if factor != 1:
            scaled = call.add("Power", [bottom], end="_scaled")
            scaled.power_param.scale = factor
            bottom = scaled.name
        return with_parameter(call, "Bias", y, x, bottom=bottom)
    return _weighted_sum(call, x, y, 1, factor)


@operators.register("aten.pow")
def power(call: Call) -> str:
    exponent = call.arguments["exponent"]
    call.check(
        isinstance(exponent, (int, float)) and "self" in call.arguments,
        "its exponent is no number, which Caffe's Power needs",
    )
    return _power(call, power=exponent)


@operators.register("aten.sqrt")
def square_root(call: Call) -> str:
    return _power(call, power=0.5)


@operators.register("aten.rsqrt")
def inverse_of_the_square_root(call: Call) -> str:
    return _power(call, power=-0.5)


@operators.register("aten.reciprocal")
def inverse(call: Call) -> str:
    return _power(call, power=-1)


@operators.register("aten.maximum")
def maximum(call: Call) -> str:
    x, y = call.arguments["self"], call.arguments["other"]
    call.check(
        shape_of(x) == shape_of(y),
        f"its operands are {shape_of(x)} and {shape_of(y)}; Caffe's Eltwise needs equal shapes",
    )
    message = call.add("Eltwise", [call.blob(x), call.blob(y)])
    message.eltwise_param.operation = message.eltwise_param.MAX
    return str(message.name)


def _weighted_sum(call: Call, x: Any, y: Any, first: float, second: float) -> str:
    call.check(
        shape_of(x) == shape_of(y),
        f"its operands are {shape_of(x)} and {shape_of(y)}; Caffe's Eltwise needs equal shapes",
    )
    message = call.add("Eltwise", [call.blob(x), call.blob(y)])
    if (first, second) != (1, 1):
        message.eltwise_param.coeff.extend((first, second))
    return str(message.name)


def _power(call: Call, scale: float = 1.0, shift: float = 0.0, power: float = 1.0) -> str:
    """(scale x + shift) ^ power."""
    message = call.add("Power", [call.bottom("self")])
    if power != 1:
        message.power_param.power = power
    if scale != 1:
        message.power_param.scale = scale
    if shift != 0:
        message.power_param.shift = shift
    return str(message.name)


def _unchanged(values: torch.Tensor) -> torch.Tensor:
    return values


def with_parameter(
    call: Call,
    kind: str,
    x: Any,
    y: Any,
    change: Callable[[torch.Tensor], torch.Tensor] = _unchanged,
    bottom: str = "",
) -> str:
    """A Scale or Bias of a parameter with values for neighbouring axes, or one for all channels.

    Args:
        kind: "Scale" or "Bias".
        x: the value that is computed.
        y: the parameter.
        change: what is done to the values of the parameter.
        bottom: the blob to read in place of that of ``x``.
    """
    shape, own = shape_of(x), shape_of(y)
    full = (1,) * (len(shape) - len(own)) + own
    varying = [axis for axis, extent in enumerate(full) if extent != 1] or [1]
    first, last = varying[0], varying[-1]
    items = call.axis_of_items(x)
    call.check(
        len(shape) > 1 and len(full) == len(shape) and not first <= items <= last,
        f"its parameter is {own} for {shape}; Caffe takes the same values for each item",
    )
    call.check(
        all(extent in (1, here) for extent, here in zip(full, shape, strict=True)),
        f"its parameter is {own} for {shape}, which it would enlarge; Caffe's {kind} keeps the "
        "shape: use expand() first",
    )
    tensor = change(call.constants[y][1].detach().cpu().float()).reshape(full)
    for axis in reversed([*range(first), *range(last + 1, len(full))]):
        tensor = tensor.select(axis, 0)
    values = tensor.expand(shape[first : last + 1]).numpy()
    message = call.add(kind, [bottom or call.blob(x)], np.asarray(values, np.float32))
    if (first, last) != (1, 1):
        p = message.scale_param if kind == "Scale" else message.bias_param
        p.axis, p.num_axes = first, last + 1 - first
    return str(message.name)


def _gated(call: Call, x: Any, y: Any) -> str:
    """(N, C, H, W) times one factor per image and channel: a Scale with two bottoms."""
    if np.prod(shape_of(y)) > np.prod(shape_of(x)):
        x, y = y, x
    shape, factors = shape_of(x), shape_of(y)
    call.check(
        factors == shape[:2] + (1,) * (len(shape) - 2),
        f"its operands are {shape} and {factors}; Caffe takes equal shapes, or one factor per "
        "image and channel",
    )
    flat = call.add("Flatten", [call.blob(y)], end="_factors")
    message = call.add("Scale", [call.blob(x), flat.name])
    message.scale_param.axis = 0
    return str(message.name)
