"""The rate drops when the watched value has stopped improving."""

from __future__ import annotations

import numpy as np

from caffecompat.proto.schema import Message
from caffecompat.solver.optim.policies.base import Policy, decayed, register
from caffecompat.weights import SolverState

# The initial minimum in SSD's Caffe.
_INITIAL_BEST = np.float32(1e38)


@register("plateau")
class Plateau(Policy):
    """base_lr * gamma ^ (drops so far).

    A drop comes when the watched value has not improved for ``plateau_winsize`` iterations since
    the last improvement or drop; the n-th window holds for the n-th drop, the last one for all
    later drops. There are ``plateau_drops`` drops, or by default as many as windows.

    The watched value is the output of a test net that ``plateau_metric`` names, read after each
    test; by default it is the training loss, averaged over ``average_loss`` iterations. The formula
    is that of SSD's Caffe.
    """

    status = "Plateau Status"

    def setup(self, message: Message) -> None:
        self.check(message.gamma >= 0, f"gamma is {message.gamma:g}, it must not be negative")
        self.windows = list(message.plateau_winsize)
        self.check(bool(self.windows), "plateau_winsize is missing; give it in iterations")
        for window in self.windows:
            self.check(window > 0, f"plateau_winsize is {window}, it must be positive")
        self.check(
            message.plateau_drops >= 0,
            f"plateau_drops is {message.plateau_drops}, it must not be negative",
        )
        self.gamma = np.float32(message.gamma)
        self.drops = message.plateau_drops or len(self.windows)
        self.metric = message.plateau_metric or None
        self.watches_loss = self.metric is None
        self.average = int(message.average_loss)
        self.best = _INITIAL_BEST
        self.last_event = 0
        self.recent: list[float] = []

    def rate(self, iteration: int) -> np.float32:
        return decayed(self.base_lr, self.gamma, self.step)

    def observe(self, iteration: int, value: float) -> None:
        found = np.float32(value)
        if self.watches_loss:
            self.recent = [*self.recent, value][-self.average :]
            found = np.mean(np.array(self.recent, np.float32), dtype=np.float32)
        if found < self.best:
            self.best = found
            self.last_event = iteration
        window = self.windows[min(self.step, len(self.windows) - 1)]
        if self.step < self.drops and iteration - self.last_event >= window:
            self.step += 1
            self.last_event = iteration

    def save(self, state: SolverState) -> None:
        super().save(state)
        state.minimum_loss = float(self.best)
        state.iter_last_event = self.last_event
        state.recent_losses = list(self.recent)

    def load(self, state: SolverState) -> None:
        super().load(state)
        self.best = _INITIAL_BEST if state.minimum_loss is None else np.float32(state.minimum_loss)
        self.last_event = state.iter_last_event if state.minimum_loss is not None else 0
        self.recent = list(state.recent_losses)
