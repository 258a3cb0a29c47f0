"""The passes of one iteration: forward, backward, and the watch over the loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import torch

from caffecompat.net import Net, Result
from caffecompat.net.execution.cuda_graph import CapturedPass
from caffecompat.reporting.glog import number
from caffecompat.solver.diagnostics.debug_info import DebugPass
from caffecompat.solver.diagnostics.nonfinite import NotFinite, explain, watch
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
        stop: raise where a loss is not finite, instead of going on.
        log: where ``debug_info`` goes.
        options: how the net computes, and the processes that share the batch; losses and gradients
            are those of all of them.

    Attributes:
        debug: log every blob and gradient of the next passes in Caffe's words.
        keeps_gradients: gradients must stay where they are from iteration to iteration.
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
        self._shares = LossSharding(net, process_group)
        learnable = net.learnable
        self._gradients = (
            GradientBuckets(learnable, process_group) if process_group.several else None
        )
        self._learned = [entry.tensor for entry in learnable]
        self._scale = GradScaler(net.device, place, log) if compute.precision == "fp16" else None
        self._captured: CapturedPass | None = None
        if compute.cuda_graph:
            scale = None if self._scale is None else self._scale.value
            self._captured = CapturedPass(
                net, lambda: compute.forward(net.device), scale, adds_up=count > 1
            )
        self.keeps_gradients = process_group.several or compute.cuda_graph

    @property
    def replaces_gradients(self) -> bool:
        """Whether the next passes overwrite gradients, which need not be cleared before."""
        return self._captured is not None and self._count == 1 and not self.debug

    def run(self, iteration: int) -> tuple[Result, torch.Tensor]:
        """All passes of ``iteration`` (from 0).

        Returns:
            The last pass's result, and the mean loss as a 0-axis tensor.

        Raises:
            NotFinite: a loss is not finite; the sentence names the layer where it began.
        """
        losses = []
        last = (iteration + 1) * self._count - 1
        for index in range(iteration * self._count, last + 1):
            if self._gradients is not None and index == last:
                # Layer by layer a shared parameter gets its gradient in several pieces.
                self._gradients.begin(overlap=not self.debug)
            losses.append(self._run(index, iteration))
        if self._gradients is not None:
            self._gradients.finish()
        return self._result, self._process_group.sum(sum(losses[1:], losses[0]) / self._count)

    def usable(self, iteration: int) -> bool:
        """Whether the gradients can be used; in fp16 they may have overflowed.

        Raises:
            SolverError: they always do.
        """
        if self._scale is None:
            return True
        gradients = [tensor.grad for tensor in self._learned if tensor.grad is not None]
        return self._scale.take_off(gradients, iteration)

    def save(self, state: SolverState) -> None:
        """Puts into a solver state what passes hand on to later ones."""
        if self._scale is not None:
            self._scale.save(state)

    def load(self, state: SolverState) -> None:
        """Goes on from a solver state."""
        if self._scale is not None:
            self._scale.load(state)

    def outputs(self, result: Result) -> dict[str, torch.Tensor]:
        """The outputs of a pass for the batch of all ranks; all of them must ask."""
        return self._shares.outputs(result)

    def look(self, iteration: int) -> torch.Tensor:
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
                value = watch(result.loss) if self._stop else None
            else:
                with self._compute.forward(self._net.device):
                    result = self._net.run(index)
                value = watch(result.loss) if self._stop else None
                self._backward(result.loss)
        self._result = result
        if self._net.device.type == "cuda":
            # Before anything here waits for the device.
            self._net.read_ahead(index + 1)
        if value is not None and not math.isfinite(loss := value()):
            raise self._broken(loss, index, iteration)
        # A captured pass writes the next loss to the same place.
        return result.loss.detach() if self._captured is None else result.loss.clone()

    def _run_debugged(self, index: int) -> tuple[Result, Callable[[], float] | None]:
        debugged = self._debugged()
        with self._compute.forward(self._net.device):
            result = debugged.forward(index)
        value = watch(result.loss) if self._stop else None
        debugged.backward()
        return result, value

    def _backward(self, loss: torch.Tensor) -> None:
        if loss.requires_grad:
            (loss if self._scale is None else loss * self._scale.value).backward()

    def _debugged(self) -> DebugPass:
        self._debug_pass = self._debug_pass or DebugPass(self._net, self._log)
        return self._debug_pass

    def _broken(self, loss: float, index: int, iteration: int) -> NotFinite:
        # The other ranks do not look for the place with this one.
        with self._process_group.apart(), self._compute.forward(self._net.device):
            found = explain(self._net, index)
        return NotFinite(
            f"{self._place}: iteration {iteration}: the loss is {number(loss)}, a finite number "
            f"was expected: {found}"
        )
