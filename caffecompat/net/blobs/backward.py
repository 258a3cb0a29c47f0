"""Backward passes from tensors with given gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch


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
    # What torch.autograd.backward calls once it has looked at the shapes of the gradients.
    torch.autograd.Variable._execution_engine.run_backward(
        tuple(tensors), tuple(given), keep, False, (), allow_unreachable=True, accumulate_grad=True
    )
