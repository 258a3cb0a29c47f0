"""Shape rules of operators that work element by element."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffecompat.net.shapes.rules import Rules, broadcast, in_order, result

rules = Rules()

_FUNCTIONS = ["abs", "cos", "erf", "exp", "expm1", "floor", "log", "log1p", "neg", "reciprocal"]
_FUNCTIONS += ["round", "rsqrt", "sign", "sin", "sqrt", "trunc"]
_FUNCTIONS += ["elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "relu"]
_FUNCTIONS += ["sigmoid", "silu", "softplus", "tanh"]
_FUNCTIONS += ["pow.Tensor_Scalar"]
_BITWISE = ["bitwise_and", "bitwise_or", "bitwise_xor"]
_COMPARING = ["eq", "ne", "lt", "le", "gt", "ge"]


def _with_operand(*names: str) -> list[str]:
    """The operators that take a tensor and those that take a number as their second operand."""
    return [f"{name}.{operand}" for name in names for operand in ("Scalar", "Tensor")]


def _elementwise(dtype: torch.dtype, *operands: Any) -> Tensor | None:
    """A result of this type with the shape to which the tensors among ``operands`` broadcast."""
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    shape = broadcast(*tensors)
    return None if shape is None or not in_order(*tensors) else result(shape, dtype)


@rules.of(*_FUNCTIONS)
def function(self: Tensor, *scalars: Any, **more: Any) -> Tensor | None:
    """A function of one tensor; floating-point values keep their type."""
    return _elementwise(self.dtype, self) if self.is_floating_point() else None


@rules.of("clamp", "clamp_max", "clamp_min", "remainder.Scalar", "rsub.Scalar")
def function_with_numbers(self: Tensor, *numbers: Any, **more: Any) -> Tensor | None:
    """A function of one tensor and some numbers that gives integers for integers."""
    dtype = self.dtype
    for number in (*numbers, *more.values()):
        if number is not None:
            dtype = torch.result_type(torch.empty((1,), dtype=dtype, device="meta"), number)
    return None if torch.bool in (self.dtype, dtype) else _elementwise(dtype, self)


@rules.of("clamp_", "exp_", "log_", "neg_", "reciprocal_", "relu_", "sigmoid_", "sqrt_", "tanh_")
def function_in_place(self: Tensor, *scalars: Any, **more: Any) -> Tensor | None:
    return self if self.is_floating_point() else None


@rules.of("div.Tensor", "maximum", "minimum", "pow.Tensor_Tensor", "_prelu_kernel")
def arithmetic(self: Tensor, other: Any, alpha: Any = 1) -> Tensor | None:
    """An operator of two numbers, of which at least one has floating point."""
    dtype = torch.result_type(self, other)
    return _elementwise(dtype, self, other) if dtype.is_floating_point else None


@rules.of("add.Tensor", "sub.Tensor", "mul.Tensor")
def ring_arithmetic(self: Tensor, other: Any, alpha: Any = 1) -> Tensor | None:
    """An operator of two numbers that gives integers for integers."""
    dtype = torch.result_type(self, other)
    return None if dtype == torch.bool else _elementwise(dtype, self, other)


@rules.of("div.Tensor_mode")
def rounded_division(self: Tensor, other: Any, *, rounding_mode: str | None) -> Tensor | None:
    return ring_arithmetic(self, other) if rounding_mode in ("floor", "trunc") else None


@rules.of("add_.Tensor", "sub_.Tensor", "mul_.Tensor", "div_.Tensor")
def arithmetic_in_place(self: Tensor, other: Any, alpha: Any = 1) -> Tensor | None:
    if torch.result_type(self, other) != self.dtype or not self.is_floating_point():
        return None
    fits = not isinstance(other, Tensor) or broadcast(self, other) == self.shape
    return self if fits else None


@rules.of(*_with_operand(*_BITWISE))
def bits(self: Tensor, other: Any) -> Tensor | None:
    dtype = torch.result_type(self, other)
    return None if dtype.is_floating_point else _elementwise(dtype, self, other)


@rules.of(*_with_operand("__lshift__", "__rshift__"))
def shift(self: Tensor, other: Any) -> Tensor | None:
    shifts_flags = torch.bool in (self.dtype, getattr(other, "dtype", None))
    return None if shifts_flags else bits(self, other)


@rules.of(*_with_operand(*_COMPARING), "logical_and", "logical_or")
def comparison(self: Tensor, other: Any) -> Tensor | None:
    return _elementwise(torch.bool, self, other)


@rules.of(*(f"{name}_out" for name in _with_operand(*_COMPARING)))
def comparison_into(self: Tensor, other: Any, *, out: Tensor) -> Tensor | None:
    tensors = [operand for operand in (self, other) if isinstance(operand, Tensor)]
    return out if broadcast(*tensors) == out.shape else None


@rules.of("where.self")
def where(condition: Tensor, self: Tensor, other: Tensor) -> Tensor | None:
    if condition.dtype != torch.bool:
        return None
    return _elementwise(torch.result_type(self, other), condition, self, other)


@rules.of("masked_fill.Scalar")
def masked_fill(self: Tensor, mask: Tensor, value: Any) -> Tensor | None:
    if mask.dtype != torch.bool or broadcast(self, mask) != self.shape:
        return None
    return _elementwise(self.dtype, self)


@rules.of("empty_like", "zeros_like", "ones_like")
def new_values(self: Tensor, dtype: torch.dtype | None = None, **more: Any) -> Tensor | None:
    plain = all(more.get(name) is None for name in ("layout", "device"))
    plain = plain and more.get("memory_format") in (None, torch.preserve_format)
    return _elementwise(dtype or self.dtype, self) if plain else None


@rules.of("full_like")
def full_like(self: Tensor, fill_value: Any, **more: Any) -> Tensor | None:
    return new_values(self, **more)


@rules.of("mse_loss")
def mse_loss(self: Tensor, target: Tensor, reduction: int = 1) -> Tensor | None:
    return _loss(self, target, reduction)


@rules.of("binary_cross_entropy_with_logits")
def cross_entropy_with_logits(
    self: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = 1,
) -> Tensor | None:
    if weight is not None or pos_weight is not None:
        return None
    return _loss(self, target, reduction)


def _loss(self: Tensor, target: Tensor, reduction: int) -> Tensor | None:
    """A loss of pairs of elements; ``reduction`` 0 leaves them, others make one value of them."""
    if self.shape != target.shape or self.dtype != target.dtype or not self.is_floating_point():
        return None
    return result((), self.dtype) if reduction else _elementwise(self.dtype, self, target)
