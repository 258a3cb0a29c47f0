"""Solver: trains a net by a solver definition."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from caffecompat.net.execution.layer_watch import StopRequested
from caffecompat.proto.schema import Message
from caffecompat.reporting.glog import LOGGER, silent_log
from caffecompat.solver.callbacks import Callback, call_iterated
from caffecompat.solver.diagnostics.label_check import check_labels
from caffecompat.solver.diagnostics.nonfinite import NotFinite
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.estimate.forecast import batch_size
from caffecompat.solver.intervals import is_due
from caffecompat.solver.large_pages import LargePages
from caffecompat.solver.optim.plateau_metric import PlateauMetric, find_metric
from caffecompat.solver.reporters.remaining_time import time_reported
from caffecompat.solver.scores import Scores
from caffecompat.solver.setup.options import STOP, SolverKeywords, SolverOptions
from caffecompat.solver.setup.settings import Settings
from caffecompat.solver.setup.start_lines import nothing_to_do
from caffecompat.solver.signals import Action, uninterrupted
from caffecompat.solver.solver_preparation import Start, prepare
from caffecompat.solver.tester import Tester, is_test_due
from caffecompat.solver.training_state import TrainingState
from caffecompat.weights import SolverState

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Solver(TrainingState):
    """Trains a net, tests it, writes snapshots and resumes from them.

    Args:
        source: path of a solver prototxt, or a SolverParameter message.
        weights: weight files to start from, one path or several separated by commas; they replace
            the definition's own ``weights``.
        snapshot: a solver state to resume from, or ``"auto"`` for the newest intact one under the
            snapshot prefix; if there is none yet, the training starts from the beginning.
        device: torch device; by default that of ``solver_mode`` if it is set, else the CPU.
        log: where the log lines go; by default the logger ``caffecompat``.
        options: further options, whose fields can be given as keywords too: see
            :class:`caffecompat.solver.setup.options.SolverOptions`.
        process_group: the processes that train together, from
            :func:`caffecompat.solver.distributed.process_group.join_ranks`; each creates its
            Solver and calls the same methods. The batch is split over them; the result is that of
            one process.

    Data, dropout and initial weights are pure functions of the seed and the iteration: two runs
    with one seed are equal, and a resumed run equals the uninterrupted one bit for bit on the
    same kind of device. The seed is ``random_seed``; without one a seed is drawn, logged and kept
    in the solver states.

    Example::

        solver = Solver("solver.prototxt")
        solver.step(100)
        print(solver.iter, solver.loss, solver.test_all())

    Attributes:
        net: the train net.
        test_nets: the test nets; their weights are those of the train net.
        iter: updates made so far.
        rate: the learning rate of the last update.
        seed: of everything random.
        stopped: whether a request ended the last :meth:`step` or :meth:`solve`.
        preempted: whether that request was a preemption (SIGTERM).
        requested: called between iterations; returns whether to stop or to write a snapshot.
        stop_requested: called between the layers of a slow pass; True ends the pass, and the
            iteration has no effect. ``requested`` must return a stop afterwards.
        activity: what the solver is doing now.
        tests_made, seconds_testing: number and total seconds of the calls of :meth:`test_all`.
        callbacks: called after iterations, displays and tests.

    Raises:
        FileProblem, TextError: a file is missing or does not parse.
        UnknownName, SolverError: impossible settings, or a state that does not fit.
        NetError, WeightsError: a net cannot be built, or weights do not fit it.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Message | Settings,
        weights: str | os.PathLike[str] | None = None,
        snapshot: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        *,
        options: SolverOptions | None = None,
        process_group: ProcessGroup | None = None,
        log: logging.Logger | None = None,
        **keywords: Unpack[SolverKeywords],
    ) -> None:
        options = replace(options or SolverOptions(), **keywords)
        process_group = process_group or ProcessGroup()
        log = (log or LOGGER) if process_group.first else silent_log()
        start = Start(weights, snapshot, device)
        prepared = prepare(source, start, options, process_group, log)
        super().__init__(prepared, options.on_nan == STOP, log)
        self.requested: Callable[[], Action] = _nothing
        self.tests_made, self.seconds_testing, self.rate = 0, 0.0, 0.0
        self.callbacks: list[Callback] = [LargePages(log)] if options.large_pages else []
        self.stopped = False
        stored = None if prepared.state is None else prepared.state.random_seed
        self._build_nets(self._choose_seed(stored))
        log.info("Solver scaffolding done.")
        if prepared.auto_iter_size is not None:
            prepared.auto_iter_size.report(self.net, log)
        if prepared.state is not None and prepared.state_path is not None:
            log.info(f"Resuming from {prepared.state_path}")
            self._apply_state(prepared.state, prepared.state_path)

    def _build_nets(self, seed: int) -> None:
        super()._build_nets(seed)
        self._metric: PlateauMetric | None = None
        if self._policy.metric is not None:
            self._metric = find_metric(self._policy.metric, self.test_nets, self._place)
            self._log.info(self._metric.describe())
        compute = self._prepared.options.compute
        # A pass of several ranks cannot end alone; a compiled or captured pass has no layers.
        whole = compute.compiled or self._train_step.captures
        self._layer_watch.possible = not (self._process_group.several or whole)
        self._tester = Tester(self._message, self.net, compute, self._log, self._layer_watch)

    def _apply_state(self, state: SolverState, path: str) -> str | None:
        weights = super()._apply_state(state, path)
        self._display.begin(self.iter)
        return weights

    # Training

    @property
    def loss(self) -> float:
        """The displayed loss: the mean over the last ``average_loss`` iterations."""
        return self._display.loss

    @property
    def max_iter(self) -> int:
        """The iteration that :meth:`solve` trains to."""
        return int(self._message.max_iter)

    @property
    def images_per_iteration(self) -> int | None:
        """Images per update; None for a net without data layers."""
        batch = batch_size(self.net)
        return None if batch is None else batch * int(self._message.iter_size)

    def displays(self, iteration: int) -> bool:
        """Whether the log shows ``iteration``."""
        return self._display.is_due(iteration)

    def solve(self) -> None:
        """Trains to ``max_iter``, with the tests and snapshots of the definition.

        Raises:
            SolverError: snapshots cannot be written, or the loss is not finite (see ``on_nan``).
            DataError: a record cannot be used, or a label is not one of the classes.
            FileProblem: the last snapshot cannot be written.
        """
        if self._message.snapshot_after_train:
            self._snapshot_writer.check_writable(self.max_iter)
        with self._snapshot_writer.locked(), time_reported(self, self._message, self._log):
            self._solve()

    def _solve(self) -> None:
        message = self._message
        self._snapshot_writer.clean_up()
        self._log.info(f"Solving {self.net.name}")
        self._log.info(f"Learning Rate Policy: {message.lr_policy}")
        if self.iter < self.max_iter:
            remarks = check_labels(self.net, self.iter * message.iter_size)
        else:
            remarks = nothing_to_do(self.iter, self.max_iter)
        for remark in remarks:
            self._log.warning(remark)
        self.step(self.max_iter - self.iter)
        self._train_step.catch_up()
        if self._wants_last_snapshot():
            self.snapshot()
        if self.stopped:
            self._log.info("Optimization stopped early.")
            return
        if self._display.is_due(self.iter):
            with torch.no_grad():
                loss = self._train_step.first_loss(self.iter)
            self._display.show_last(self.iter, loss)
        if is_due(message.test_interval, self.iter):
            self.test_all()
        self._log.info("Optimization Done.")

    def step(self, iterations: int) -> None:
        """Makes ``iterations`` updates, with the tests and snapshots that are due.

        The average of the displayed loss starts anew; losses of earlier calls do not count.

        Raises:
            NotFinite: a loss is not finite (see ``on_nan``); the weights are those before it.
        """
        self._display.begin(self.iter)
        self.stopped = self.preempted = False
        stop = self.iter + iterations
        self._train_step.weights_changed()
        try:
            while self.iter < stop and not self._test_if_due():
                done = self._iterate()
                action = self._process_group.agree(self.requested())
                due = done and is_due(self._message.snapshot, self.iter)
                if action is Action.SNAPSHOT or due:
                    self._try_snapshot()
                if self._is_stop(action):
                    break
            self._train_step.read_loss()
        except NotFinite as error:
            self.iter = self.iter if error.iteration is None else error.iteration
            raise
        self._display.catch_up()

    def _is_stop(self, action: Action) -> bool:
        self.stopped = self.stopped or action in (Action.STOP, Action.PREEMPT)
        self.preempted = self.preempted or action is Action.PREEMPT
        return self.stopped

    def _iterate(self) -> bool:
        """One update with its log lines; False if a stop has ended it without any effect."""
        display = self._display.is_due(self.iter)
        self._train_step.debug = display and bool(self._message.debug_info)
        if self._train_step.debug:
            self._display.catch_up()
        self._optimizer.clear(self._train_step.keeps_gradients, self._train_step.replaces_gradients)
        try:
            with self._train_step.whole(self.iter):
                self._make_iteration(display)
        except StopRequested:
            return False
        if call_iterated(self):
            self._train_step.weights_changed()
        return True

    def _make_iteration(self, display: bool) -> None:
        at, step = self.iter, self._policy.step
        work = partial(self._train_step.run, at, self._next_rate)
        try:
            result, loss = self._layer_watch.run(self.net, "iteration", at, work)
            self._display.add(at, loss)
            if display:
                values = self._train_step.outputs(result)
                outputs = self._display.show(at, values, self.net.loss_weights)
                for callback in self.callbacks:
                    callback.displayed(self, outputs)
            self._update_parameters(display, loss, step)
        except BaseException:
            if self._train_step.updated:
                self.iter = at + 1  # also where a pass is played back with its update
            raise

    def _update_parameters(self, display: bool, loss: torch.Tensor, step: int) -> None:
        if self._policy.watches_loss:
            self._policy.observe(self.iter, float(loss))
        played = self._train_step.played_rate
        rate = self._next_rate() if played is None else played
        self.rate = float(rate)
        self._display.show_step(self._policy, self.iter, step)
        if display:
            self._display.show_rate(self.iter, self.rate)
        with uninterrupted():  # an update is made and counted, or neither
            norm = self._train_step.update(rate, self.iter)
            self.iter += 1
        self._display.add_norm(norm)

    # Testing

    def test_all(self) -> list[Scores]:
        """Runs every test net; its data continues after that of the earlier scheduled tests.

        Rank 0 tests and broadcasts the scores.

        Returns:
            The means of each test net, fewer if a stop was requested during the test.
        """
        self._train_step.read_loss()
        self._display.catch_up()
        started = time.monotonic()
        scores: list[Scores] = []
        for index, net in enumerate(self.test_nets if self._process_group.first else ()):
            result = self._tester.test(index, net, self.iter, self._interrupted)
            if result is None:
                self._log.info("Test interrupted.")
                break
            scores.append(result)
            for callback in self.callbacks:
                callback.tested(self, index, result)
        of_first = self._process_group.broadcast((scores, self.stopped, self.preempted))
        scores, self.stopped, self.preempted = of_first
        self.tests_made += 1
        self.seconds_testing += time.monotonic() - started
        return scores

    def _test_if_due(self) -> bool:
        """Tests if a test is due before the next iteration; returns whether to stop."""
        if is_test_due(self._message, self.iter):
            scores = self.test_all()
            if self._metric is not None and len(scores) > self._metric.net:
                step = self._policy.step
                value = self._metric.value(scores[self._metric.net])
                self._policy.observe(self.iter, value)
                self._display.show_step(self._policy, self.iter, step)
        return self.stopped

    def _interrupted(self) -> bool:
        """Handles a request during a test; returns whether to stop."""
        action = self.requested()
        if action is Action.SNAPSHOT:
            self._try_snapshot()
        return self._is_stop(action)


def _nothing() -> Action:
    return Action.NONE
