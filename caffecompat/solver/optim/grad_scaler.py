"""GradScaler: loss scaling, so that gradients in fp16 neither vanish nor overflow."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from caffecompat.errors import SolverError
from caffecompat.reporting.glog import number
from caffecompat.weights import SolverState

_INITIAL_SCALE = 2.0**16
_MIN_SCALE = 2.0**-14
# Updates without an overflow after which a larger scale is tried.
_GROWTH_INTERVAL = 2000


class GradScaler:
    """Multiplies the loss before the backward pass and divides the gradients after it.

    If the gradients of an iteration overflow, no update is made and the scale is halved; after
    2000 iterations without an overflow it is doubled.

    Args:
        device: of the net.
        place: the solver's file, for messages.
        log: for a line at each overflow.

    Attributes:
        value: the scale, a 0-axis tensor that keeps its address.
    """

    def __init__(self, device: torch.device, place: str, log: logging.Logger) -> None:
        self.value = torch.full((), _INITIAL_SCALE, device=device)
        self._place = place
        self._log = log
        self._good = 0

    def save(self, state: SolverState) -> None:
        """Writes the scale into a solver state."""
        state.loss_scale = float(self.value)
        state.good_iterations = self._good

    def load(self, state: SolverState) -> None:
        """Restores the scale from a solver state; states of other precisions have none."""
        if state.loss_scale is not None:
            self.value.fill_(state.loss_scale)
            self._good = state.good_iterations

    @torch.no_grad()
    def unscale(self, gradients: Sequence[torch.Tensor], iteration: int) -> bool:
        """Divides the gradients of an iteration by the scale; returns whether they are finite.

        Raises:
            SolverError: they overflow at the smallest scale.
        """
        found = torch.zeros(1, device=self.value.device)
        inverse = self.value.reciprocal().reshape(1)
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), found, inverse)
        if not found.item():
            self._good += 1
            if self._good == _GROWTH_INTERVAL:
                self.value.mul_(2)
                self._good = 0
            return True
        self._good = 0
        self.value.div_(2)
        scale = float(self.value)
        if scale < _MIN_SCALE:
            raise SolverError(
                f"{self._place}: iteration {iteration}: gradients are not finite in fp16 whatever "
                "the loss scale; lower base_lr, set clip_gradients, or use --precision bf16"
            )
        self._log.info(
            f"Iteration {iteration}: gradients overflow in fp16, no update is made; the loss scale "
            f"is {number(scale)} now"
        )
        return False
