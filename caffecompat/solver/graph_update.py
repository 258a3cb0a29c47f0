"""The update of an iteration as the end of a captured pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.optim.optimizer import Optimizer


@dataclass(frozen=True)
class GraphUpdate:
    """The update, which the device itself leaves out where no update must be made.

    That is where the gradients have overflowed in fp16, and, with ``stop``, where the loss is not
    finite: the host ends the training then, with the weights before the iteration.

    Attributes:
        optimizer: its rates are set before each pass.
        scaler: of the loss, in fp16.
        stop: the training stops where a loss is not finite.
    """

    optimizer: Optimizer
    scaler: GradScaler | None
    stop: bool

    @property
    def changed(self) -> Sequence[torch.Tensor]:
        return [] if self.scaler is None else self.scaler.changed

    @torch.no_grad()
    def __call__(self, loss: torch.Tensor, held: torch.Tensor) -> None:
        skip = held.float()
        if self.stop:
            skip = skip + (~torch.isfinite(loss)).float()
        if self.scaler is not None:
            self.scaler.check(self.optimizer.gradients)
            self.scaler.adjust()
            skip = skip + self.scaler.found[0]
        self.optimizer.apply_on_device(skip)
