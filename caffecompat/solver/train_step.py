"""TrainStep: passes and update of one iteration, and the check of the loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import numpy as np
import torch

from caffecompat.net import Net, Result
from caffecompat.net.execution.gpu.cudnn import algorithms_explained, done_without_cudnn
from caffecompat.solver.diagnostics.debug_info import DebugPass
from caffecompat.solver.diagnostics.nonfinite import NotFinite, explain, read_later
from caffecompat.solver.distributed.gradient_buckets import GradientBuckets
from caffecompat.solver.distributed.loss_sharding import LossSharding
from caffecompat.solver.kept_iterations import KeptIterations
from caffecompat.solver.optim.grad_scaler import GradScaler
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.played_passes import PlayedPasses
from caffecompat.solver.setup.build_nets import NetOptions
from caffecompat.solver.setup.settings import Settings
from caffecompat.solver.signals import uninterrupted
from caffecompat.weights import SolverState

Rate: TypeAlias = Callable[[], np.float32]


class TrainStep:
    """Runs ``iter_size`` passes per iteration, whose gradients add up in ``.grad``, and the update.

    Args:
        net: the train net.
        optimizer: of its parameters.
        settings: of the solver.
        stop: raise an error if a loss is not finite; otherwise continue.
        log: for the lines of ``debug_info`` and about what is captured.
        options: compute options and process group, which shares each batch; losses
            and gradients are those of all ranks.

    Attributes:
        debug: log the lines of ``debug_info`` for the next passes.
        updated: whether the update of the running iteration has been made.
        played_rate: the learning rate of an update that is played back with its pass; else None.
        keeps_gradients: whether gradients must stay at their addresses from iteration to
            iteration.
    """

    def __init__(
        self,
        net: Net,
        optimizer: Optimizer,
        settings: Settings,
        stop: bool,
        log: logging.Logger,
        options: NetOptions,
    ) -> None:
        compute, process_group = options.compute, options.process_group
        self._net = net
        # Asked for several times in each pass; an attribute of a module takes long.
        self._device = net.device
        self._optimizer = optimizer
        self._count = int(settings.message.iter_size)
        self._place = settings.place
        self._stop = stop
        self._log = log
        self._compute = compute
        self._process_group = process_group
        self.debug = False
        self._debug_pass: DebugPass | None = None
        self._loss_sharding = LossSharding(net, process_group, compute.compiled)
        self._gradients = (
            GradientBuckets(net.learnable, process_group) if process_group.several else None
        )
        self._grad_scaler = (
            GradScaler(net.device, settings.place, log) if compute.precision == "fp16" else None
        )
        # On a CPU the flag is there at once, and only the kernel leaves an update out at no cost.
        self._reads_late = compute.kernels_on(net.device).update and not optimizer.obstacle
        # Whether the device has left out updates after a loss that is not finite, and what reads
        # the loss of the last iteration that was played back with its update.
        self._stopped = torch.zeros((), device=net.device) if stop else None
        self._kept = KeptIterations(net, settings.policy)
        self._unread: list[Callable[[], None]] = []
        self._played = PlayedPasses(
            net, optimizer, settings, options, self._grad_scaler, self._stopped, log
        )
        self.updated = False
        self.played_rate: np.float32 | None = None
        self.keeps_gradients = process_group.several or self.captures

    def weights_changed(self) -> None:
        """Says that weights may have been changed by something else than :meth:`update`."""
        self._played.weights_changed()

    @property
    def captures(self) -> bool:
        """Whether passes are, or will be, played back from a CUDA graph."""
        return self._played.wanted

    @property
    def replaces_gradients(self) -> bool:
        """Whether the next passes overwrite the gradients, which then need no clearing."""
        return self._plays and self._count == 1

    @property
    def _plays(self) -> bool:
        """Whether the next passes are played back, which keeps the outputs alone."""
        return self.captures and not self.debug and not self._net.observe

    @contextmanager
    def whole(self, iteration: int) -> Iterator[None]:
        """Inside of it :meth:`run` and :meth:`update` are called, once each.

        After an exception, such as KeyboardInterrupt in a notebook or one of a Python layer, all is
        as it was before, so that the iteration can be made again; unless it is :attr:`updated`.
        """
        self.updated, self.played_rate = False, None
        self._kept.keep(iteration)
        try:
            yield
        except NotFinite:
            raise  # it may be about the iteration before, and has restored what was before that
        except BaseException:
            if not self.updated:
                with uninterrupted():
                    self._kept.restore(iteration)
            raise

    def run(self, iteration: int, rate: Rate) -> tuple[Result, torch.Tensor]:
        """Runs all passes of ``iteration`` (from 0).

        Args:
            rate: returns the learning rate of the iteration, if the passes need it.

        Returns:
            The last pass's result of this rank, and the mean loss over the passes, a 0-axis tensor
            summed over the ranks.

        Raises:
            NotFinite: a loss is not finite; where the update is played back with the pass, that of
                the iteration before, after which no update was made.
        """
        if self._process_group.several:
            return self._run_passes(iteration, rate)
        clear = partial(self._optimizer.clear, self.keeps_gradients)
        undo = (partial(self._kept.restore, iteration), clear)
        return done_without_cudnn(partial(self._run_passes, iteration, rate), undo, self._log)

    def _run_passes(self, iteration: int, rate: Rate) -> tuple[Result, torch.Tensor]:
        if self._played.with_update and self._plays:
            self.played_rate = rate()
            self._optimizer.set_rates(self.played_rate, iteration)
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

    def update(self, rate: np.float32, iteration: int) -> torch.Tensor | None:
        """Updates the parameters from the gradients of the passes of ``iteration``.

        In fp16 there is no update if they have overflowed.

        Returns:
            The norm of the gradients, as :meth:`Optimizer.apply`.

        Raises:
            SolverError: they overflow at the smallest loss scale too.
        """
        if self.updated:
            if self._grad_scaler is not None:
                self._grad_scaler.watch(iteration)
            return None
        self.weights_changed()
        norm = self._update(rate, iteration)
        self.updated = True
        return norm

    def _update(self, rate: np.float32, iteration: int) -> torch.Tensor | None:
        scaler = self._grad_scaler
        if scaler is None:
            return self._optimizer.apply(rate, iteration)
        if not self._reads_late:
            usable = scaler.unscale(self._optimizer.gradients, iteration)
            return self._optimizer.apply(rate, iteration) if usable else None
        scaler.check(self._optimizer.gradients)
        scaler.adjust()
        self._optimizer.apply(rate, iteration, skip=scaler.found)
        scaler.watch(iteration)
        return None

    def save(self, state: SolverState) -> None:
        """Writes the loss scale into a solver state.

        Raises:
            NotFinite: as :meth:`read_loss`; what would be saved is not of use then.
        """
        self.read_loss()
        if self._grad_scaler is not None:
            self._grad_scaler.save(state)

    def load(self, state: SolverState) -> None:
        """Restores the loss scale from a solver state; a loss before it is no longer read."""
        self._unread.clear()
        if self._stopped is not None:
            self._stopped.zero_()
        if self._grad_scaler is not None:
            self._grad_scaler.load(state)

    def catch_up(self) -> None:
        """Reports an overflow in the last iteration, which the next one would report.

        Raises:
            SolverError: the gradients overflow at the smallest loss scale too.
        """
        if self._grad_scaler is not None:
            self._grad_scaler.catch_up()

    def outputs(self, result: Result) -> dict[str, torch.Tensor]:
        """The outputs of a pass for the whole batch; a collective operation of all ranks.

        Raises:
            NotFinite: as :meth:`read_loss`.
        """
        self.read_loss()
        return self._loss_sharding.outputs(result)

    def first_loss(self, iteration: int) -> torch.Tensor:
        """The loss of the first pass of ``iteration``, without a backward pass."""
        index = iteration * self._count
        with self._compute.forward(self._device):
            result = self._debugged().forward(index) if self.debug else self._net.run(index)
        return self._process_group.sum(result.loss.detach())

    def _run(self, index: int, iteration: int) -> torch.Tensor:
        value: Callable[[], list[float]] | None = None
        with self._compute.whole_pass():
            if self.debug:
                result, value = self._run_debugged(index)
            elif self._plays and self._prepare(index):
                result = self._play(index, iteration)
            else:
                with self._compute.forward(self._device):
                    result = self._net.run(index)
                value = read_later(result.loss) if self._stop else None
                _backward(result, self._grad_scaler)
        self._result = result
        if self._device.type == "cuda":
            # Before the host waits for the device below, and in the numbers that the pass takes.
            with self._compute.forward(self._device):
                self._net.read_ahead(index + 1)
        # The loss of a pass that was played back with its update is read in the next iteration.
        self.read_loss(left=int(self.updated))
        if value is not None:
            self._check_loss(value, index, iteration)
        # A captured pass writes the next loss into the same tensor.
        return result.loss.detach().clone() if self.captures else result.loss.detach()

    def _prepare(self, index: int) -> bool:
        """Whether pass ``index`` can be played back now."""
        if self._played.prepare(index):
            return True
        self.keeps_gradients = self._process_group.several
        if self._count == 1:
            # Those of the captured pass before.
            for entry in self._net.learnable:
                entry.tensor.grad = None
        return False

    def _play(self, index: int, iteration: int) -> Result:
        with uninterrupted():  # what it has updated is known to be, and its loss will be read
            result = self._played.play()
            self.updated = self._played.with_update
            if self._stop:
                value = read_later(result.loss)
                self._unread.append(partial(self._check_loss, value, index, iteration))
        return result

    def read_loss(self, left: int = 0) -> None:
        """Waits for the losses of passes that were played back, but for the last ``left`` ones.

        Raises:
            NotFinite: one is not finite.
        """
        while len(self._unread) > left:
            self._unread.pop(0)()

    def _check_loss(self, value: Callable[[], list[float]], index: int, iteration: int) -> None:
        loss = value()[0]
        if not math.isfinite(loss):
            self._unread.clear()
            if self._stopped is not None:
                self._stopped.zero_()
            self._kept.restore(iteration)
            raise self._nonfinite_loss(loss, index, iteration)

    def _run_debugged(self, index: int) -> tuple[Result, Callable[[], list[float]] | None]:
        debugged = self._debugged()
        with self._compute.forward(self._device):
            result = debugged.forward(index)
        value = read_later(result.loss) if self._stop else None
        debugged.backward()
        return result, value

    def _debugged(self) -> DebugPass:
        self._debug_pass = self._debug_pass or DebugPass(self._net, self._log)
        return self._debug_pass

    def _nonfinite_loss(self, loss: float, index: int, iteration: int) -> NotFinite:
        # The other ranks do not run this pass.
        with self._process_group.isolate(), self._compute.forward(self._device):
            found = explain(self._net, index)
        return NotFinite.loss(self._place, iteration, loss, found)


def _backward(result: Result, scaler: GradScaler | None) -> None:
    loss = result.loss
    if result.backward is not None:
        with algorithms_explained():
            result.backward()
    elif loss.requires_grad:
        with algorithms_explained():
            (loss if scaler is None else loss * scaler.value).backward()
