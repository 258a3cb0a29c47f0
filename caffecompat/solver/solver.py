"""Solver: trains a net as a solver definition says."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import torch

from caffecompat.errors import SolverError
from caffecompat.net import Net, Result
from caffecompat.proto.format_text import format_text
from caffecompat.proto.schema import Message
from caffecompat.solver.device import describe_choice, solver_device
from caffecompat.solver.display import Display
from caffecompat.solver.log import LOGGER, number, output_lines
from caffecompat.solver.nets import PlannedNet, plan_test_nets, plan_train_net
from caffecompat.solver.seeds import choose_seed
from caffecompat.solver.settings import read_settings
from caffecompat.solver.signals import Action
from caffecompat.solver.snapshot import (
    find_learned_net,
    load_state,
    snapshot_files,
    write_pair,
)
from caffecompat.solver.testing import Scores, is_test_due, run_test, scheduled_tests
from caffecompat.solver.update import Update
from caffecompat.weights import SolverState


class Solver:
    """Trains a net, tests it, keeps snapshots and goes on from them.

    Args:
        source: path of a solver prototxt, or a SolverParameter message.
        weights: weight files to start from, one path or several separated by commas; they take
            the place of the definition's own ``weights``.
        snapshot: a solver state to go on from.
        device: torch device; by default what ``solver_mode`` says where it is written, else CPU.
        level, stages: put into ``train_state``, as Caffe's command line does it.
        log: where the log lines go; by default the logger ``caffecompat``.

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
        seed: what everything random is drawn from.
        requested: asked between iterations whether to stop or to write a snapshot.
        on_iteration: called after each iteration, for progress bars.

    Raises:
        FileProblem, TextError: a file is missing or does not parse.
        UnknownName, SolverError: impossible settings, or a state that does not fit.
        NetError, WeightsError: a net cannot be built, or weights do not fit it.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Message,
        weights: str | os.PathLike[str] | None = None,
        snapshot: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        *,
        level: int | None = None,
        stages: Sequence[str] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        if weights and snapshot:
            raise SolverError(
                "weights and snapshot are both given; give a snapshot to resume a training or "
                "weights to start one from, not both"
            )
        self._log = log or LOGGER
        self._settings = read_settings(source)
        self._message = self._settings.message
        self._place = self._settings.place
        self._device = solver_device(self._message, device)
        self._files = snapshot_files(self._message, self._settings.path)
        if self._message.snapshot > 0:
            self._files.check_writable(self._place)
        self._train_plan = plan_train_net(self._message, self._place, level, stages or ())
        self._test_plans = plan_test_nets(self._message, self._place)
        state = load_state(os.fspath(snapshot)) if snapshot else None
        self._weights = _weight_files(self._message, weights) if state is None else []
        self._report_start()
        self.requested: Callable[[], Action] = _nothing
        self.on_iteration: Callable[[Solver], None] | None = None
        self.iter = 0
        self.rate = 0.0
        self._stopped = False
        self._display = Display(self._message, self._log)
        stored = state.random_seed if state is not None else None
        self._open_nets(choose_seed(self._message, self._place, stored, self._log))
        self._log.info("Solver scaffolding done.")
        if snapshot and state is not None:
            self._log.info(f"Resuming from {os.fspath(snapshot)}")
            self._take_state(state, os.fspath(snapshot))

    # Building

    def _report_start(self) -> None:
        for line in describe_choice(self._device):
            self._log.info(line)
        for note in self._settings.notes:
            self._log.warning(f"{self._place}: {note}")
        for note in self._train_plan.notes:
            self._log.warning(note)
        self._log.info(f"Initializing solver from parameters: \n{format_text(self._message)}")

    def _open_nets(self, seed: int) -> None:
        """Builds the train net and the test nets, and an update that starts without history."""
        self.seed = seed
        self._opened: list[Net] = []
        try:
            self._open_all()
        except BaseException:
            self.close()
            raise
        rule = self._settings.rule
        self._update = Update(self.net.learnable, rule, self._message, self._place)

    def _open_all(self) -> None:
        self._log.info(f"Creating training net from {self._train_plan.origin}")
        self.net = self._open_net(self._train_plan, None)
        self._report_batch()
        self.test_nets: list[Net] = []
        for i, plan in enumerate(self._test_plans):
            self._log.info(f"Creating test net (#{i}) specified by {plan.origin}")
            self.test_nets.append(self._open_net(plan, self.net))

    def _open_net(self, plan: PlannedNet, lender: Net | None) -> Net:
        net = Net(plan.source, device=self._device, seed=self.seed, state=plan.state, lender=lender)
        self._opened.append(net)
        if lender is not None:
            # Refuses layers of one name and different shapes, which lending alone passes over.
            net.share_weights(lender)
        for note in net.notes:
            self._log.info(note)
        for name in net.outputs:
            self._log.info(f"This network produces output {name}")
        self._log.info("Network initialization done.")
        for path in self._weights:
            self._log.info(f"Finetuning from {path}")
            for layer in net.load_weights(path).ignored:
                self._log.info(f"Ignoring source layer {layer}")
        return net

    def _report_batch(self) -> None:
        batch = _batch_size(self.net)
        passes = self._message.iter_size
        if batch is not None:
            text = f"Effective batch size: {batch * passes}"
            self._log.info(f"{text} (batch size {batch} x iter_size {passes}, on 1 device)")

    def close(self) -> None:
        """Stops the nets' data threads and closes their files."""
        for net in self._opened:
            net.close()

    # Training

    @property
    def loss(self) -> float:
        """The loss as it is displayed: the mean over the last ``average_loss`` iterations."""
        return self._display.loss

    @property
    def max_iter(self) -> int:
        """The iteration that :meth:`solve` trains to."""
        return int(self._message.max_iter)

    def solve(self) -> None:
        """Trains to ``max_iter``, with tests and snapshots as the definition says.

        Raises:
            SolverError: snapshots are wanted, but there is no place for them.
        """
        message = self._message
        if message.snapshot_after_train:
            self._files.check_writable(self._place)
        self._log.info(f"Solving {self.net.name}")
        self._log.info(f"Learning Rate Policy: {message.lr_policy}")
        self.step(self.max_iter - self.iter)
        if message.snapshot_after_train and not _is_due(message.snapshot, self.iter):
            self.snapshot()
        if self._stopped:
            self._log.info("Optimization stopped early.")
            return
        if self._display.is_due(self.iter):
            with torch.no_grad():
                result = self.net.run(self.iter * message.iter_size)
            self._display.show_last(self.iter, result.loss)
        if _is_due(message.test_interval, self.iter):
            self.test_all()
        self._log.info("Optimization Done.")

    def step(self, iterations: int) -> None:
        """Makes ``iterations`` updates, with the tests and snapshots that fall between them.

        The displayed loss is averaged anew: earlier calls do not count.
        """
        self._display.begin(self.iter)
        self._stopped = False
        stop = self.iter + iterations
        while self.iter < stop and not self._test_if_due():
            self._iterate()
            action = self.requested()
            if action is Action.SNAPSHOT or _is_due(self._message.snapshot, self.iter):
                self.snapshot()
            if action is Action.STOP:
                self._stopped = True
                break
        self._display.catch_up()

    def _iterate(self) -> None:
        """One update with its log lines."""
        self._update.clear()
        result, loss = self._forward_backward()
        self._display.add(self.iter, loss)
        display = self._display.is_due(self.iter)
        if display:
            self._display.show(self.iter, result, self.net.loss_weights)
        self._update_parameters(display)
        self.iter += 1
        if self.on_iteration is not None:
            self.on_iteration(self)

    def _forward_backward(self) -> tuple[Result, torch.Tensor]:
        """Runs ``iter_size`` passes; gradients add up.

        Returns:
            The last pass's result, and the mean loss as a 0-axis tensor.
        """
        passes = self._message.iter_size
        losses = []
        for index in range(self.iter * passes, (self.iter + 1) * passes):
            result = self.net.run(index)
            if result.loss.requires_grad:
                result.loss.backward()
            losses.append(result.loss.detach())
        return result, sum(losses[1:], losses[0]) / passes

    def _update_parameters(self, display: bool) -> None:
        policy = self._settings.policy
        step = policy.step
        rate = policy.rate(self.iter)
        self.rate = float(rate)
        if policy.announces_steps and policy.step != step:
            self._log.info(f"MultiStep Status: Iteration {self.iter}, step = {policy.step}")
        if display:
            self._display.show_rate(self.iter, self.rate)
        self._display.add_norm(self._update.apply(rate, self.iter))

    # Testing

    def test_all(self) -> list[Scores]:
        """Runs every test net; its data follows on that of the earlier scheduled tests.

        Returns:
            The means of each test net, fewer if a stop was requested meanwhile.
        """
        self._display.catch_up()
        scores = []
        for index, net in enumerate(self.test_nets):
            result = self._test(index, net)
            if result is None:
                self._log.info("Test interrupted.")
                break
            scores.append(result)
        return scores

    def _test_if_due(self) -> bool:
        """Tests where a test comes before the next iteration; whether a stop was requested."""
        if is_test_due(self._message, self.iter):
            self.test_all()
        return self._stopped

    def _test(self, index: int, net: Net) -> Scores | None:
        self._log.info(f"Iteration {self.iter}, Testing net (#{index})")
        names = {built.name for built in net.layers}
        for built in self.net.layers:
            if built.name not in names:
                self._log.info(f"Ignoring source layer {built.name}")
        passes = self._message.test_iter[index]
        first = scheduled_tests(self._message, self.iter) * passes
        scores = run_test(net, first, passes, self._interrupted)
        if scores is None:
            return None
        if self._message.test_compute_loss:
            self._log.info(f"Test loss: {number(scores.loss)}")
        for line in output_lines("Test", scores.outputs, net.loss_weights):
            self._log.info(line)
        return scores

    def _interrupted(self) -> bool:
        """Answers a request in the middle of a test; whether it was to stop."""
        action = self.requested()
        if action is Action.SNAPSHOT:
            self.snapshot()
        self._stopped = self._stopped or action is Action.STOP
        return self._stopped

    # Snapshots

    def snapshot(self) -> tuple[str, str]:
        """Writes the weights, then the solver state that names them.

        Each file is written beside its place and then moved there, so that a crash at any moment
        leaves the last good pair.

        Returns:
            Paths of the two files.

        Raises:
            FileProblem: a file cannot be written.
        """
        self._display.catch_up()
        model, path = self._files.model(self.iter), self._files.state(self.iter)
        kind = "HDF5" if self._files.hdf5 else "binary proto"
        diffs = bool(self._message.snapshot_diff)
        if diffs:
            self._update.show_updates()
        history = [array.cpu().numpy() for array in self._update.history]
        step = self._settings.policy.step
        self._log.info(f"Snapshotting to {kind} file {model}")
        self._log.info(f"Snapshotting solver state to {kind} file {path}")
        state = SolverState(self.iter, model, history, step, self.seed)
        write_pair(self.net.to_weights(diffs), state, path)
        return model, path

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Goes on from a solver state: iteration, weights, history, position in the data.

        A state of a run with another seed rebuilds the nets, unless the definition has a
        ``random_seed``, which then counts; :attr:`net` and :attr:`test_nets` are new objects.

        Raises:
            FileProblem: the state or its weights are missing.
            FormatError, SolverError, WeightsError: they are damaged or do not fit.
        """
        path = os.fspath(path)
        state = load_state(path)
        self._log.info(f"Restoring previous solver status from {path}")
        stored = self.seed if state.random_seed is None else state.random_seed
        seed = choose_seed(self._message, self._place, stored, self._log)
        if seed != self.seed:
            weights = self.net.to_weights()
            self.close()
            self._open_nets(seed)
            self.net.load_weights(weights)
        self._take_state(state, path)

    def _take_state(self, state: SolverState, path: str) -> None:
        learned = find_learned_net(state, path)
        self._update.check(state, path)
        if learned is not None:
            self.net.load_weights(learned)
        else:
            self._log.warning(f"{path}: names no weights; the net keeps the ones it has")
        if not path.endswith(".h5"):
            self._log.info("SGDSolver: restoring history")
        self._update.restore(state)
        self.iter = state.iteration
        self._settings.policy.step = state.current_step
        self._display.begin(self.iter)


def _nothing() -> Action:
    return Action.NONE


def _is_due(interval: int, iteration: int) -> bool:
    return interval > 0 and iteration % interval == 0


def _weight_files(message: Message, weights: str | os.PathLike[str] | None) -> list[str]:
    """The weight files to start from; every entry may be a list with commas and blanks."""
    entries = [os.fspath(weights)] if weights else list(message.weights)
    names = [name.strip() for entry in entries for name in entry.split(",")]
    return [name for name in names if name]


def _batch_size(net: Net) -> int | None:
    """The first extent of the first data layer's first top; None for a net without data."""
    for built in net.layers:
        if built.source is not None and built.shapes and built.shapes[0]:
            return int(built.shapes[0][0])
    return None
