"""Tables of shape rules by torch operator, and what several rules use.

A rule has the parameters of its operator in ATen and returns what the operator would return on
``meta`` tensors: empty tensors of the right shape and type. It returns None where it does not
apply; torch's own kernel then answers, or refuses the arguments with its own message. A rule
therefore never raises an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Rule: TypeAlias = Callable[..., Any]


class Rules(dict[str, Rule]):
    """Shape rules by the name of their operator, e.g. ``"aten::add.Tensor"``."""

    def of(self, *operators: str) -> Callable[[Rule], Rule]:
        """Decorator that enters a rule for operators of ATen, e.g. ``"add.Tensor"``."""

        def enter(rule: Rule) -> Rule:
            self.update({f"aten::{operator}": rule for operator in operators})
            return rule

        return enter


def result(shape: Iterable[int], dtype: torch.dtype) -> Tensor:
    """An operator's result: a contiguous ``meta`` tensor."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def in_order(*tensors: Tensor) -> bool:
    """Whether no axis lies inside a later one in memory, so that torch's result is contiguous."""
    return all(tensor.is_contiguous() or _strides_fall(tensor) for tensor in tensors)


def _strides_fall(tensor: Tensor) -> bool:
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    strides = [stride for extent, stride in pairs if extent != 1 and stride != 0]
    return all(a >= b for a, b in itertools.pairwise(strides))


def broadcast(*tensors: Tensor) -> tuple[int, ...] | None:
    """The shape to which the tensors broadcast; None if they do not."""
    shapes = [tensor.shape for tensor in tensors]
    if all(shape == shapes[0] for shape in shapes):
        return tuple(shapes[0])
    axes = max(len(shape) for shape in shapes)
    whole = [1] * axes
    for shape in shapes:
        for axis, extent in enumerate(shape, axes - len(shape)):
            if extent != 1 and whole[axis] not in (1, extent):
                return None
            if extent != 1:
                whole[axis] = extent
    return tuple(whole)


def axis_of(dim: int, tensor: Tensor) -> int | None:
    """``dim`` counted from the first axis; None if the tensor has no such axis."""
    axes = tensor.dim()
    return dim % axes if -axes <= dim < axes else None
