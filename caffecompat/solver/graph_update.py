"""The update of an iteration as the end of a captured pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.optim.optimizer import Optimizer


@dataclass(frozen=True)
class GraphUpdate:
    """The update, which the device itself leaves out where no update must be made.

    That is where the gradients have overflowed in fp16, and, with ``stopped``, from the first loss
    on that is not finite: the host, which reads losses late, ends the training then, with the
    weights before that iteration.

    Attributes:
        optimizer: its rates are set before each pass.
        scaler: of the loss, in fp16.
        stopped: 0-axis tensor, 1 after a loss that was not finite; None to train on.
        copies: of parameters in 16 bits, see :meth:`Optimizer.apply_on_device`.
    """

    optimizer: Optimizer
    scaler: GradScaler | None
    stopped: torch.Tensor | None
    copies: Mapping[int, torch.Tensor]

    @property
    def changed(self) -> Sequence[torch.Tensor]:
        own = [] if self.stopped is None else [self.stopped]
        return own if self.scaler is None else own + self.scaler.changed

    @torch.no_grad()
    def __call__(self, loss: torch.Tensor, held: torch.Tensor) -> None:
        skip = held.float()
        if self.stopped is not None:
            self.stopped.logical_or_(~torch.isfinite(loss))
            skip = skip + self.stopped
        if self.scaler is not None:
            self.scaler.check(self.optimizer.gradients)
            self.scaler.adjust()
            skip = skip + self.scaler.found[0]
        self.optimizer.apply_on_device(skip, self.copies)
