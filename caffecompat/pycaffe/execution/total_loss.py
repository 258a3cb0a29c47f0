"""A loss whose backward pass runs the layers of a net backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def loss_with_backward(loss: torch.Tensor, backward: Callable[[], None]) -> torch.Tensor:
    """``loss`` as a tensor whose ``backward()`` calls ``backward``."""

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> None:
            backward()

    result: torch.Tensor = Step.apply(loss.requires_grad_())
    return result
