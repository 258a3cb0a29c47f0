"""The log lines of a training: displayed loss, net outputs, clipped gradients, divergence."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch

from caffecompat.proto.schema import Message
from caffecompat.reporting.glog import PROGRESS, number, output_lines
from caffecompat.solver.intervals import is_due
from caffecompat.solver.loss_window import LossWindow
from caffecompat.solver.optim.policies import Policy

# At most this many gradient norms stay on the device in runs that display nothing.
_MAX_UNREAD = 128


class TrainLog:
    """Writes Caffe's lines of a training.

    Losses and gradient norms stay on the device until a line needs them, so that the host does not
    wait for the device between two displays.

    Args:
        message: SolverParameter.
        log: for the lines.
    """

    def __init__(self, message: Message, log: logging.Logger) -> None:
        self._interval = int(message.display)
        self._average = int(message.average_loss)
        self._limit = float(message.clip_gradients)
        self._log = log
        self._norms: list[torch.Tensor] = []
        self.begin(0)

    def begin(self, iteration: int) -> None:
        """Starts anew at ``iteration``, with an empty loss window and the clock at zero."""
        self._window = LossWindow(self._average)
        self._shown_at = iteration
        self._shown_time = time.perf_counter()
        self._warned = False

    def is_due(self, iteration: int) -> bool:
        return is_due(self._interval, iteration)

    @property
    def loss(self) -> float:
        """The mean loss over the window, as it is displayed."""
        return self._window.value

    def add(self, iteration: int, loss: torch.Tensor) -> None:
        """Adds the loss of ``iteration``, a 0-axis tensor."""
        self._window.add(iteration, loss)

    def add_norm(self, norm: torch.Tensor | None) -> None:
        """Adds the norm of the gradients before clipping; None without clipping."""
        if norm is not None:
            self._norms.append(norm)
            if len(self._norms) >= _MAX_UNREAD:
                self.catch_up()

    def show(
        self, iteration: int, values: dict[str, torch.Tensor], weights: dict[str, float]
    ) -> dict[str, list[float]]:
        """Logs a displayed iteration except its rate; returns the outputs' elements."""
        self.catch_up()
        now = time.perf_counter()
        lapse = now - self._shown_time
        per_second = (iteration - self._shown_at) / (lapse or 1.0)
        self._log_progress(
            f"Iteration {iteration} ({number(per_second)} iter/s, {number(lapse)}s/"
            f"{self._interval} iters), loss = {number(self.loss)}"
        )
        self._shown_at, self._shown_time = iteration, now
        outputs = {name: value.flatten().tolist() for name, value in values.items()}
        for line in output_lines("Train", outputs, weights):
            self._log_progress(line)
        return outputs

    def show_rate(self, iteration: int, rate: float) -> None:
        self._log_progress(f"Iteration {iteration}, lr = {number(rate)}")

    def show_last(self, iteration: int, loss: torch.Tensor) -> None:
        """Logs the line after the training, with the loss of one more pass."""
        self.add(iteration, loss)
        self._log.info(f"Iteration {iteration}, loss = {number(self.loss)}")

    def show_step(self, policy: Policy, iteration: int, before: int) -> None:
        """Logs the step of a learning-rate policy, if it is no longer the one ``before``."""
        if policy.status and policy.step != before:
            self.catch_up()
            self._log.info(f"{policy.status}: Iteration {iteration}, step = {policy.step}")

    def catch_up(self) -> None:
        """Logs clipped gradients and a loss that is not finite, as added since the last call."""
        norms = torch.stack(self._norms).tolist() if self._norms else []
        self._norms.clear()
        for norm in norms:
            if norm > self._limit:
                self._log_progress(
                    f"Gradient clipping: scaling down gradients (L2 norm {number(norm)} > "
                    f"{number(self._limit)}) by scale factor {number(self._limit / norm)}"
                )
        self._window.read_all()
        if self._window.first_nonfinite is not None and not self._warned:
            self._warned = True
            self._log.warning(
                f"Iteration {self._window.first_nonfinite}: the loss is not a finite number; the "
                "run has diverged. Lower base_lr or set clip_gradients, and go on from an older "
                "snapshot"
            )

    def _log_progress(self, text: str) -> None:
        """Logs a line that a progress bar replaces, with the line number of the caller."""
        marked: dict[str, Any] = PROGRESS
        self._log.info(text, extra=marked, stacklevel=2)
