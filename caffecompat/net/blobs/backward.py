"""Backward passes from tensors with given gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class _Roots(torch.autograd.Function):
    """A value whose gradient with respect to each tensor is the given one."""

    @staticmethod
    def forward(
        ctx: Any, gradients: Sequence[torch.Tensor], *tensors: torch.Tensor
    ) -> torch.Tensor:
        ctx.gradients = gradients
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *ones: Any) -> Any:
        return None, *ctx.gradients


def backward_from(
    tensors: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None], keep: bool = False
) -> None:
    """What ``torch.autograd.backward`` does, which imports ``sympy`` when it is given gradients.

    The import takes more than a second.

    Args:
        tensors: at least one; all require gradients.
        gradients: those of the tensors, of the same shapes; None is 1.
        keep: whether the graph stays for another pass.
    """
    given = [
        torch.ones_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    with torch.enable_grad():
        root: Any = _Roots.apply(given, *tensors)
    root.backward(retain_graph=keep)
