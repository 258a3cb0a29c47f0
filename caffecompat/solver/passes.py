"""The passes of one iteration: forward, backward, and the watch over the loss."""

from __future__ import annotations

import logging
import math

import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net, Result
from caffecompat.solver.debug_info import DebugPass
from caffecompat.solver.finite import explain, watch
from caffecompat.solver.log import number


class NotFinite(SolverError):
    """The loss of an iteration is no finite number; the weights are those before it."""


class Passes:
    """Runs ``iter_size`` passes per iteration; gradients add up in ``.grad``.

    Args:
        net: the train net.
        count: passes per iteration.
        place: the solver's file, for messages.
        stop: raise where a loss is not finite, instead of going on.
        log: where ``debug_info`` goes.

    Attributes:
        debug: log every blob and gradient of the next passes in Caffe's words.
    """

    def __init__(self, net: Net, count: int, place: str, stop: bool, log: logging.Logger) -> None:
        self._net = net
        self._count = count
        self._place = place
        self._stop = stop
        self._log = log
        self.debug = False
        self._debug_pass: DebugPass | None = None

    def run(self, iteration: int) -> tuple[Result, torch.Tensor]:
        """All passes of ``iteration`` (from 0).

        Returns:
            The last pass's result, and the mean loss as a 0-axis tensor.

        Raises:
            NotFinite: a loss is not finite; the sentence names the layer where it began.
        """
        losses = []
        for index in range(iteration * self._count, (iteration + 1) * self._count):
            losses.append(self._run(index, iteration))
        return self._result, sum(losses[1:], losses[0]) / self._count

    def look(self, iteration: int) -> torch.Tensor:
        """The loss of the first pass of ``iteration``, without a backward pass."""
        index = iteration * self._count
        result = self._debugged().forward(index) if self.debug else self._net.run(index)
        return result.loss.detach()

    def _run(self, index: int, iteration: int) -> torch.Tensor:
        debugged = self._debugged() if self.debug else None
        result = debugged.forward(index) if debugged else self._net.run(index)
        value = watch(result.loss) if self._stop else None
        if debugged:
            debugged.backward()
        elif result.loss.requires_grad:
            result.loss.backward()
        self._result = result
        if value is not None and not math.isfinite(loss := value()):
            raise self._broken(loss, index, iteration)
        return result.loss.detach()

    def _debugged(self) -> DebugPass:
        self._debug_pass = self._debug_pass or DebugPass(self._net, self._log)
        return self._debug_pass

    def _broken(self, loss: float, index: int, iteration: int) -> NotFinite:
        return NotFinite(
            f"{self._place}: iteration {iteration}: the loss is {number(loss)}, a finite number "
            f"was expected: {explain(self._net, index)}"
        )
