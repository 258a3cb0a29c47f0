"""GradScaler: loss scaling, so that gradients in fp16 neither vanish nor overflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from caffecompat.errors import SolverError
from caffecompat.reporting.glog import number
from caffecompat.solver.diagnostics.nonfinite import read_later
from caffecompat.weights import SolverState

_INITIAL_SCALE = 2.0**16
_MIN_SCALE = 2.0**-14
# Updates without an overflow after which a larger scale is tried.
_GROWTH_INTERVAL = 2000
_GROWTH, _BACKOFF = 2.0, 0.5


class GradScaler:
    """Multiplies the loss before the backward pass and divides the gradients after it.

    If the gradients of an iteration overflow, no update is made and the scale is halved; after
    2000 iterations without an overflow it is doubled. All of that happens on the device; where the
    update is skipped there too, the host reads the result one iteration later, for the log.

    Args:
        device: of the net.
        place: the solver's file, for messages.
        log: for a line at each overflow.

    Attributes:
        value: the scale, a 0-axis tensor that keeps its address.
        found: one number, 1 if the gradients of the last iteration have overflowed, else 0.
        changed: the tensors that :meth:`check` and :meth:`adjust` change.
    """

    def __init__(self, device: torch.device, place: str, log: logging.Logger) -> None:
        self.value = torch.full((), _INITIAL_SCALE, device=device)
        self.found = torch.zeros(1, device=device)
        self._good = torch.zeros((), dtype=torch.int32, device=device)
        self._place = place
        self._log = log
        self._unread: tuple[int, Callable[[], list[float]]] | None = None

    @property
    def changed(self) -> list[torch.Tensor]:
        return [self.value, self.found, self._good]

    @property
    def good_iterations(self) -> int:
        """Iterations since the last overflow or the last larger scale; waits for the device."""
        return int(self._good)

    def save(self, state: SolverState) -> None:
        """Writes the scale into a solver state."""
        self.catch_up()
        state.loss_scale = float(self.value)
        state.good_iterations = self.good_iterations

    def load(self, state: SolverState) -> None:
        """Restores the scale from a solver state; states of other precisions have none."""
        if state.loss_scale is not None:
            self.value.fill_(state.loss_scale)
            self._good.fill_(state.good_iterations)

    @torch.no_grad()
    def check(self, gradients: Sequence[torch.Tensor]) -> None:
        """Divides the gradients by the scale and sets :attr:`found`, on the device alone."""
        self.found.zero_()
        inverse = self.value.reciprocal().reshape(1)
        torch._amp_foreach_non_finite_check_and_unscale_(list(gradients), self.found, inverse)

    @torch.no_grad()
    def adjust(self) -> None:
        """Changes the scale after the iteration that :meth:`check` has seen, on the device."""
        torch._amp_update_scale_(
            self.value, self._good, self.found, _GROWTH, _BACKOFF, _GROWTH_INTERVAL
        )

    def unscale(self, gradients: Sequence[torch.Tensor], iteration: int) -> bool:
        """Divides the gradients of an iteration by the scale; returns whether they are finite.

        Raises:
            SolverError: they overflow at the smallest scale.
        """
        self.check(gradients)
        self.adjust()
        return not self._report(iteration, float(self.found), float(self.value))

    def watch(self, iteration: int) -> None:
        """Reports the iteration before, and has the result of this one copied to the host.

        Raises:
            SolverError: the gradients of the iteration before overflow at the smallest scale.
        """
        self.catch_up()
        self._unread = (iteration, read_later(torch.stack([self.found[0], self.value])))

    def catch_up(self) -> None:
        """Reports the last iteration that :meth:`watch` was called for; see there."""
        if self._unread is not None:
            iteration, values = self._unread
            self._unread = None
            self._report(iteration, *values())

    def _report(self, iteration: int, found: float, scale: float) -> bool:
        """A line for the log if the gradients of ``iteration`` have overflowed; whether they have.

        ``scale`` is the one after that iteration.
        """
        if not found:
            return False
        if scale < _MIN_SCALE:
            raise SolverError(
                f"{self._place}: iteration {iteration}: gradients are not finite in fp16 whatever "
                "the loss scale; lower base_lr, set clip_gradients, or use --precision bf16"
            )
        self._log.info(
            f"Iteration {iteration}: gradients overflow in fp16, no update is made; the loss scale "
            f"is {number(scale)} now"
        )
        return True
