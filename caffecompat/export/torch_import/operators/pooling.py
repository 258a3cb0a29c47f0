"""Pooling. Caffe rounds the number of windows up, torch down; round_mode makes them equal."""

from __future__ import annotations

from typing import Any

from caffecompat.export.torch_import.operator import Call, operators
from caffecompat.export.windows import Pair, set_windows
from caffecompat.layers._pooling_windows import Windows


@operators.register("aten.max_pool2d")
def max_pool(call: Call) -> str:
    call.check(call.pair("dilation") == (1, 1), "Caffe's Pooling has no dilation")
    return _pooling(call, "MAX")


@operators.register("aten.avg_pool2d")
def average_pool(call: Call) -> str:
    padded = call.pair("padding") != (0, 0)
    call.check(
        call.arguments["count_include_pad"] or not padded,
        "count_include_pad is false, but Caffe's mean counts the padding",
    )
    call.check(call.arguments["divisor_override"] is None, "Caffe has no divisor_override")
    return _pooling(call, "AVE")


@operators.register("aten.adaptive_avg_pool2d")
def adaptive_average_pool(call: Call) -> str:
    _check_batch(call)
    bottom, wanted = call.bottom_shape("self")[-2:], call.pair("output_size")
    if wanted == bottom:
        return call.bottom("self")
    if wanted == (1, 1):
        return global_average(call)
    call.check(
        all(size % count == 0 for size, count in zip(bottom, wanted, strict=True)),
        f"its windows have different sizes: {bottom[0]}x{bottom[1]} does not divide into "
        f"{wanted[0]}x{wanted[1]}",
    )
    kernel = (bottom[0] // wanted[0], bottom[1] // wanted[1])
    message = call.add("Pooling", [call.bottom("self")])
    _set_pooling(message.pooling_param, "AVE", kernel, kernel, (0, 0))
    return str(message.name)


def global_average(call: Call) -> str:
    """The blob of a Pooling over the whole plane."""
    message = call.add("Pooling", [call.bottom("self")])
    p = message.pooling_param
    p.pool, p.global_pooling = p.AVE, True
    return str(message.name)


def _check_batch(call: Call) -> None:
    call.check(
        len(call.bottom_shape("self")) == 4,
        "its input has no axis of the batch: give an example with one",
    )


def _pooling(call: Call, method: str) -> str:
    _check_batch(call)
    kernel, padding = call.pair("kernel_size"), call.pair("padding")
    stride = call.pair("stride") if call.arguments["stride"] else kernel
    call.check(
        padding[0] < kernel[0] and padding[1] < kernel[1],
        "its padding is not smaller than its kernel, which Caffe refuses",
    )
    message = call.add("Pooling", [call.bottom("self")])
    p = message.pooling_param
    _set_pooling(p, method, kernel, stride, padding)
    size, wanted = call.bottom_shape("self")[-2:], call.shape[-2:]
    rounds_up = Windows(size, kernel, stride, padding).count == wanted
    if not call.arguments["ceil_mode"] and not rounds_up:
        p.round_mode = p.FLOOR
    elif not rounds_up:
        call.refuse("its last window lies beyond the image, where Caffe has one and torch none")
    return str(message.name)


def _set_pooling(p: Any, method: str, kernel: Pair, stride: Pair, padding: Pair) -> None:
    p.pool = p.MAX if method == "MAX" else p.AVE
    set_windows(p, kernel, stride, padding)
