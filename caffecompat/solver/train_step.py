"""TrainStep: the forward and backward passes of one iteration, and the check of their loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch

from caffecompat.net import Net, Result
from caffecompat.net.execution.cuda_graph import CapturedPass
from caffecompat.reporting.glog import number
from caffecompat.solver.diagnostics.debug_info import DebugPass
from caffecompat.solver.diagnostics.nonfinite import NotFinite, explain, read_later
from caffecompat.solver.distributed.gradient_buckets import GradientBuckets
from caffecompat.solver.distributed.loss_sharding import LossSharding
from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.setup.build_nets import NetOptions
from caffecompat.weights import SolverState


class TrainStep:
    """Runs ``iter_size`` passes per iteration; gradients add up in ``.grad``.

    Args:
        net: the train net.
        count: passes per iteration.
        place: the solver's file, for messages.
        stop: raise an error if a loss is not finite; otherwise continue.
        log: for the lines of ``debug_info``.
        options: compute options and process group, which shares each batch; losses
            and gradients are those of all ranks.

    Attributes:
        debug: log the lines of ``debug_info`` for the next passes.
        keeps_gradients: whether gradients must stay at their addresses from iteration to
            iteration.
    """

    def __init__(
        self,
        net: Net,
        count: int,
        place: str,
        stop: bool,
        log: logging.Logger,
        options: NetOptions,
    ) -> None:
        compute, process_group = options.compute, options.process_group
        self._net = net
        self._count = count
        self._place = place
        self._stop = stop
        self._log = log
        self._compute = compute
        self._process_group = process_group
        self.debug = False
        self._debug_pass: DebugPass | None = None
        self._loss_sharding = LossSharding(net, process_group, compute.compiled)
        learnable = net.learnable
        self._gradients = (
            GradientBuckets(learnable, process_group) if process_group.several else None
        )
        self._learned = [entry.tensor for entry in learnable]
        self._grad_scaler = (
            GradScaler(net.device, place, log) if compute.precision == "fp16" else None
        )
        self._captured: CapturedPass | None = None
        if compute.cuda_graph:
            scale = None if self._grad_scaler is None else self._grad_scaler.value
            self._captured = CapturedPass(
                net, lambda: compute.forward(net.device), scale, adds_up=count > 1
            )
        self.keeps_gradients = process_group.several or compute.cuda_graph

    @property
    def replaces_gradients(self) -> bool:
        """Whether the next passes overwrite the gradients, which then need no clearing."""
        return self._captured is not None and self._count == 1 and not self.debug

    def run(self, iteration: int) -> tuple[Result, torch.Tensor]:
        """Runs all passes of ``iteration`` (from 0).

        Returns:
            The last pass's result of this rank, and the mean loss over the passes, a 0-axis tensor
            summed over the ranks.

        Raises:
            NotFinite: a loss is not finite; the sentence names the layer where it began.
        """
        losses = []
        last = (iteration + 1) * self._count - 1
        for index in range(iteration * self._count, last + 1):
            if self._gradients is not None and index == last:
                # In a debug pass the gradient of a shared parameter comes in several parts.
                self._gradients.begin(overlap=not self.debug)
            losses.append(self._run(index, iteration))
        if self._gradients is not None:
            self._gradients.finish()
        return self._result, self._process_group.sum(sum(losses[1:], losses[0]) / self._count)

    def usable(self, iteration: int) -> bool:
        """Whether the gradients are finite; in fp16 they may have overflowed.

        Raises:
            SolverError: they overflow at the smallest loss scale too.
        """
        if self._grad_scaler is None:
            return True
        gradients = [tensor.grad for tensor in self._learned if tensor.grad is not None]
        return self._grad_scaler.unscale(gradients, iteration)

    def save(self, state: SolverState) -> None:
        """Writes the loss scale into a solver state."""
        if self._grad_scaler is not None:
            self._grad_scaler.save(state)

    def load(self, state: SolverState) -> None:
        """Restores the loss scale from a solver state."""
        if self._grad_scaler is not None:
            self._grad_scaler.load(state)

    def outputs(self, result: Result) -> dict[str, torch.Tensor]:
        """The outputs of a pass for the whole batch; a collective operation of all ranks."""
        return self._loss_sharding.outputs(result)

    def first_loss(self, iteration: int) -> torch.Tensor:
        """The loss of the first pass of ``iteration``, without a backward pass."""
        index = iteration * self._count
        with self._compute.forward(self._net.device):
            result = self._debugged().forward(index) if self.debug else self._net.run(index)
        return self._process_group.sum(result.loss.detach())

    def _run(self, index: int, iteration: int) -> torch.Tensor:
        with self._compute.whole_pass():
            if self.debug:
                result, value = self._run_debugged(index)
            elif self._captured is not None:
                result = self._captured.run(index)
                value = read_later(result.loss) if self._stop else None
            else:
                with self._compute.forward(self._net.device):
                    result = self._net.run(index)
                value = read_later(result.loss) if self._stop else None
                self._backward(result.loss)
        self._result = result
        if self._net.device.type == "cuda":
            # Before the host waits for the device below.
            self._net.read_ahead(index + 1)
        if value is not None and not math.isfinite(loss := value()):
            raise self._nonfinite_loss(loss, index, iteration)
        # A captured pass writes the next loss into the same tensor.
        return result.loss.detach() if self._captured is None else result.loss.clone()

    def _run_debugged(self, index: int) -> tuple[Result, Callable[[], float] | None]:
        debugged = self._debugged()
        with self._compute.forward(self._net.device):
            result = debugged.forward(index)
        value = read_later(result.loss) if self._stop else None
        debugged.backward()
        return result, value

    def _backward(self, loss: torch.Tensor) -> None:
        if loss.requires_grad:
            (loss if self._grad_scaler is None else loss * self._grad_scaler.value).backward()

    def _debugged(self) -> DebugPass:
        self._debug_pass = self._debug_pass or DebugPass(self._net, self._log)
        return self._debug_pass

    def _nonfinite_loss(self, loss: float, index: int, iteration: int) -> NotFinite:
        # The other ranks do not run this pass.
        with self._process_group.isolate(), self._compute.forward(self._net.device):
            found = explain(self._net, index)
        return NotFinite(
            f"{self._place}: iteration {iteration}: the loss is {number(loss)}, a finite number "
            f"was expected: {found}"
        )
