"""Batch normalisation and local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from caffecompat.export.torch_import.operator import Call, operators, shape_of
from caffecompat.export.torch_import.operators.arithmetic import with_parameter

# The operators of nn.LocalResponseNorm from its exponent back to the square.
STEPS = ("pow", "add", "mul", "view", "squeeze", "avg_pool3d", "pad", "view")


@operators.register("aten._native_batch_norm_legit_no_training")
def batch_norm(call: Call) -> str:
    """A BatchNorm layer, and a Scale where there are factors or summands."""
    mean, variance = call.values("running_mean"), call.values("running_var")
    assert mean is not None
    assert variance is not None
    factor = np.ones(1, np.float32)
    message = call.add("BatchNorm", [call.bottom("input")], mean, variance, factor)
    message.batch_norm_param.eps = call.arguments["eps"]
    weight, bias = call.values("weight"), call.values("bias")
    if weight is None and bias is None:
        return str(message.name)
    blobs = [np.ones_like(mean) if weight is None else weight]
    if bias is not None:
        blobs.append(bias)
    scale = call.add("Scale", [message.name], *blobs, end="_scale")
    if bias is not None:
        scale.scale_param.bias_term = True
    return str(scale.name)


@operators.register("aten._native_batch_norm_legit")
@operators.register("aten._native_batch_norm_legit_functional")
@operators.register("aten.batch_norm")
@operators.register("aten.instance_norm")
def statistics_of_the_batch(call: Call) -> str:
    call.refuse(
        "it takes its statistics from the batch; use a BatchNorm with track_running_stats=True, "
        "and export it after .eval()"
    )


@operators.register("aten.div")
def division(call: Call) -> str:
    """The last step of nn.LocalResponseNorm, or a division by a number, parameter or value."""
    mode = call.arguments.get("rounding_mode")
    call.check(mode is None, f"its rounding_mode is {mode!r}; Caffe's layers do not round")
    x, divisor = call.arguments["self"], call.arguments["other"]
    if isinstance(divisor, (int, float)):
        message = call.add("Power", [call.blob(x)])
        message.power_param.scale = 1 / divisor
        return str(message.name)
    if call.is_constant(divisor):
        return with_parameter(call, "Scale", x, divisor, torch.reciprocal)
    settings = _local_response(x, divisor)
    if settings is None:
        return _divided(call, x, divisor)
    size, alpha, beta, k = settings
    call.check(size % 2 == 1, f"its size {size} is even; Caffe's LRN needs an odd one")
    message = call.add("LRN", [call.blob(x)])
    p = message.lrn_param
    p.local_size, p.alpha, p.beta, p.k = size, alpha, beta, k
    return str(message.name)


def _divided(call: Call, x: Any, divisor: Any) -> str:
    """A product with 1 / divisor."""
    call.check(
        shape_of(x) == shape_of(divisor),
        f"its operands are {shape_of(x)} and {shape_of(divisor)}; Caffe's Eltwise needs equal "
        "shapes",
    )
    inverse = call.add("Power", [call.blob(divisor)], end="_inverse")
    inverse.power_param.power = -1
    message = call.add("Eltwise", [call.blob(x), inverse.name])
    message.eltwise_param.operation = message.eltwise_param.PROD
    return str(message.name)


def parts_of_local_response(node: Any) -> list[Any]:
    """The operators that nn.LocalResponseNorm consists of, before its division ``node``."""
    if getattr(node.target, "__name__", "").partition(".")[0] != "div":
        return []
    if _local_response(*node.args[:2]) is None:
        return []
    steps = _chain(node.args[1], STEPS)
    parts = [*steps, steps[-1].args[0]]
    inside = {node, *parts}
    return [part for part in parts if inside.issuperset(part.users)]


def _local_response(x: Any, divisor: Any) -> tuple[int, float, float, float] | None:
    """Size, alpha, beta and k, if x is divided by (k + alpha mean(x^2))^beta across channels.

    Source: torch.nn.functional.local_response_norm, whose mean counts zeros beyond the channels.
    """
    steps = _chain(divisor, STEPS)
    if not steps or len(shape_of(x)) != 4:
        return None
    power, add, mul, _, _, pool, _, first = steps
    square = first.args[0]
    if getattr(square, "op", "") != "call_function" or list(square.args[:2]) != [x, x]:
        return None
    return int(pool.args[1][0]), float(mul.args[1]), float(power.args[1]), float(add.args[1])


def _chain(node: Any, names: tuple[str, ...]) -> list[Any]:
    """The nodes from ``node`` up through first arguments, if their operators have these names."""
    found = []
    for name in names:
        if getattr(node, "op", "") != "call_function":
            return []
        if getattr(node.target, "__name__", "").partition(".")[0] != name:
            return []
        found.append(node)
        node = node.args[0]
    return found
