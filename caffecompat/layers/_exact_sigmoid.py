"""The logistic function of a training on a CPU: rounded once, as Caffe's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from caffecompat.layers._transforms import is_transformed

if TYPE_CHECKING:
    from torch import Tensor

# Up to here 1 + exp(-x) in single precision costs less than 2e-4 of 1 - y.
_NEAR_ONE = 8.0


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)), by :func:`rounded_once` where autograd wants a gradient."""
    if not x.requires_grad or is_transformed():
        return x.sigmoid()
    result: Tensor = _with_gradient()(x)
    return result


def rounded_once(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)) near 1; correctly rounded for numbers in single precision on a CPU.

    torch adds 1 and exp(-x) in single precision, so that it gives 1 from 16.7 on, where the nearest
    number is below 1 up to 17.3. The gradient y (1 - y) is then 0 instead of 6e-8, and a rule that
    divides gradients by their size, such as AdaGrad, turns that into a whole step. Caffe computes
    in double precision and rounds the result.
    """
    import torch

    if x.dtype != torch.float32 or x.device.type != "cpu":
        return x.sigmoid()
    if torch.compiler.is_compiling():
        return _in_double_precision(x)
    y = x.sigmoid()
    # To look for such numbers costs less than to compute all in double precision.
    if x.numel() and x.max() > _NEAR_ONE:
        near = x > _NEAR_ONE
        y[near] = _in_double_precision(x[near])
    return y


def _in_double_precision(x: Tensor) -> Tensor:
    return x.double().sigmoid().float()


@cache
def _with_gradient() -> Any:
    import torch

    class Sigmoid(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            y = rounded_once(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> Tensor:
            (y,) = ctx.saved_tensors
            return torch.ops.aten.sigmoid_backward(diff, y)

    return Sigmoid.apply
