"""A loss whose backward pass runs the layers of a net backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def loss_with_backward(loss: torch.Tensor, backward: Callable[[], None]) -> torch.Tensor:
    """``loss`` as a tensor whose ``backward()`` calls ``backward``."""
    result: torch.Tensor = _Step.apply(loss.requires_grad_(), backward)
    return result


# Defined once: a class for each step takes as long as a small layer.
class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, backward: Callable[[], None]) -> torch.Tensor:
        ctx.run_layers = backward
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None]:
        ctx.run_layers()
        return None, None
