"""Fixed point as DeePhi's and Xilinx' Caffe rounds to it.

A number of ``bits`` bits with position p is a whole multiple of 2^-p, from -2^(bits - 1) to
2^(bits - 1) - 1 times. Source: util/quantize.cpp of Xilinx' Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffecompat.layers._surrogate_gradient import with_gradient_of

if TYPE_CHECKING:
    from torch import Tensor

    from caffecompat.layers._base import Layer, Message

# The positions of blobs that are all 0, or hold a NaN.
_ALL_ZERO, _NOT_A_NUMBER = 32767, -32768
# How many positions the search for the smallest error tries.
POSITIONS, POSITIONS_OF_SIGMOID = 5, 10


@dataclass(frozen=True)
class FixedSettings:
    """A FixedParameter: whether values are rounded, to how many bits, how the position is found."""

    enabled: bool
    bits: int
    method: str


def read_settings(layer: Layer, message: Message, methods: tuple[str, ...]) -> FixedSettings:
    """The settings of ``fixed_param``.

    Raises:
        LayerError: the method is not one of ``methods``, or the width is none.
    """
    p = message.fixed_param
    layer.check(0 < p.bit_width <= 32, f"fixed_param: bit_width is {p.bit_width}, expected 1 to 32")
    names = {p.OVER_FLOW: "OVER_FLOW", p.DIFF_S: "DIFF_S", p.DIFF_A: "DIFF_A"}
    method = names.get(p.fixed_method, "DIFF_S_SIGMOID")
    layer.check(
        method in methods,
        f"fixed_param: fixed_method {method} is not for this type, use {' or '.join(methods)}",
    )
    return FixedSettings(p.enable, p.bit_width, method)


def rounded(x: Tensor, bits: int, position: Tensor) -> Tensor:
    """Values of fixed point; ties go away from 0."""
    step = _step(position, x)
    return _limited(_ties_up((x / step).abs()).copysign(x) * step, step, bits)


def rounded_activations(x: Tensor, bits: int, position: Tensor) -> Tensor:
    """Values of fixed point; ties go up, as in the processor."""
    step = _step(position, x)
    return _limited(_ties_up(x / step) * step, step, bits)


def rounded_parameter(blob: Tensor, settings: FixedSettings) -> Tensor:
    """A parameter at its best position; the gradient passes through the rounding."""
    values = blob.detach()
    y = rounded(values, settings.bits, best_position(values, settings))
    return with_gradient_of(y, blob)


def truncated(x: Tensor, position: Tensor) -> Tensor:
    """Whole multiples of 2^-position towards 0, without limits."""
    step = _step(position, x)
    return (x / step).trunc() * step


def best_position(x: Tensor, settings: FixedSettings) -> Tensor:
    """The position for the values of a blob, 0-axis.

    OVER_FLOW: the largest one at which no value overflows by more than half a step. Other methods:
    the one of this and the next ones at which the squared error is smallest, the first of equals;
    with DIFF_S_SIGMOID the error of the values' sigmoids.
    """
    import torch

    bound = 2.0 ** (settings.bits - 1)
    step = torch.maximum(x.amin() / (-bound - 0.5), x.amax() / (bound - 0.5))
    first = (1 / step).log2().floor()
    if settings.method == "OVER_FLOW":
        return _checked(first, step)
    sigmoid = settings.method == "DIFF_S_SIGMOID"
    errors = []
    for offset in range(POSITIONS_OF_SIGMOID if sigmoid else POSITIONS):
        y = rounded(x, settings.bits, first + offset)
        difference = x.sigmoid() - y.sigmoid() if sigmoid else x - y
        errors.append(difference.square().sum())
    return _checked(first + torch.stack(errors).argmin(), step)


def _checked(position: Tensor, step: Tensor) -> Tensor:
    import torch

    position = torch.where(step == 0, torch.full_like(position, _ALL_ZERO), position)
    return torch.where(step.isnan(), torch.full_like(position, _NOT_A_NUMBER), position)


def _step(position: Tensor, x: Tensor) -> Tensor:
    # Of all zeros nothing is lost with any step.
    return (-position.to(x.dtype)).clamp(-100, 100).exp2()


def _ties_up(x: Tensor) -> Tensor:
    below = x.floor()
    return below + (x - below >= 0.5).to(x.dtype)


def _limited(x: Tensor, step: Tensor, bits: int) -> Tensor:
    bound = 2.0 ** (bits - 1)
    return x.maximum(-bound * step).minimum((bound - 1) * step)
