"""The state of a training between two iterations, and its snapshots."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import numpy as np
import torch

from caffecompat.errors import FileProblem
from caffecompat.net import Net
from caffecompat.net.execution.layer_watch import LayerWatch
from caffecompat.reporting.activity import Activity
from caffecompat.solver.diagnostics.nonfinite import NotFinite
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.intervals import is_due
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.optim.policies import Policy
from caffecompat.solver.optim.rate_limits import RateLimits
from caffecompat.solver.setup.build_nets import load_learned
from caffecompat.solver.setup.seed import choose_seed
from caffecompat.solver.setup.training_nets import TrainingNets
from caffecompat.solver.snapshots.snapshot_files import find_learned_net, load_state
from caffecompat.solver.solver_preparation import Preparation
from caffecompat.solver.train_log import TrainLog
from caffecompat.solver.train_step import TrainStep
from caffecompat.weights import SolverState


class TrainingState:
    """Nets, optimizer, learning-rate policy and iteration of a :class:`caffecompat.Solver`.

    Args:
        prepared: the solver before its nets are built.
        stop_on_nan: raise an error if a loss is not finite; otherwise continue.
        log: for the log lines.

    Attributes:
        net: the train net.
        test_nets: the test nets; their weights are those of the train net.
        iter: updates made so far.
        seed: of everything random.
        activity: what the solver is doing now.
        preempted: whether a preemption (SIGTERM) has ended the training.
    """

    net: Net
    test_nets: list[Net]
    seed: int

    def __init__(self, prepared: Preparation, stop_on_nan: bool, log: logging.Logger) -> None:
        self._prepared = prepared
        self._message = prepared.settings.message
        self._place = prepared.settings.place
        self._snapshot_writer = prepared.snapshot_writer
        self._stop_on_nan = stop_on_nan
        self._log = log
        self.iter = 0
        self.activity = Activity()
        self.preempted = False
        self._layer_watch = LayerWatch(self.activity, possible=False)
        self._display = TrainLog(self._message, log)

    @property
    def stop_requested(self) -> Callable[[], bool]:
        """Called between the layers of a slow pass; True ends the pass."""
        return self._layer_watch.stop_requested

    @stop_requested.setter
    def stop_requested(self, requested: Callable[[], bool]) -> None:
        self._layer_watch.stop_requested = requested

    @property
    def _process_group(self) -> ProcessGroup:
        return self._prepared.options.process_group

    @property
    def _limits(self) -> RateLimits:
        return self._prepared.settings.limits

    @property
    def _policy(self) -> Policy:
        return self._prepared.settings.policy

    @property
    def history(self) -> list[torch.Tensor]:
        """The update rule's arrays as solver states hold them: float32, on the net's device.

        For each of ``net.learnable``, in that order, one array of the parameter's shape; rules
        that keep two (AdaDelta, Adam) have the second ones of all parameters after the first ones
        of all. They are the arrays in use, not copies.
        """
        return self._optimizer.history

    @property
    def current_step(self) -> int:
        """How often the policy has lowered the rate in steps, as solver states hold it."""
        return self._policy.step

    @property
    def last_snapshot(self) -> str | None:
        """The newest solver state: written by this run, or the one that it resumed from."""
        return self._snapshot_writer.last

    def _next_rate(self) -> np.float32:
        """The rate of the iteration that is made now; it may change the policy's step."""
        return self._limits.applied(self._policy.rate(self.iter), self.iter)

    def _choose_seed(self, stored: int | None) -> int:
        seed = choose_seed(self._message, self._place, stored, self._log)
        return self._process_group.broadcast(seed)

    def _build_nets(self, seed: int) -> None:
        """Builds the train net, the test nets, and an optimizer without history."""
        self.seed = seed
        prepared, log = self._prepared, self._log
        options = prepared.options
        self._nets = TrainingNets(prepared.train, prepared.tests, options, seed, log)
        self.net, self.test_nets = self._nets.train, self._nets.tests
        rule = prepared.settings.rule
        kernel = options.compute.kernels_on(self.net.device).update
        self._optimizer = Optimizer(self.net.learnable, rule, self._message, self._place, kernel)
        self._train_step = TrainStep(
            self.net, self._optimizer, prepared.settings, self._stop_on_nan, log, options
        )
        self._process_group.broadcast_tensors([entry.tensor for entry in self.net.learnable])

    def close(self) -> None:
        """Stops the nets' data threads and closes their files."""
        self._nets.close()

    def snapshot(self) -> tuple[str, str]:
        """Writes the weights and the solver state that names them.

        Both are written under temporary names and then renamed, so that a failure or a crash at any
        time leaves the last good pair. Only rank 0 writes.

        Returns:
            Paths of the two files.

        Raises:
            FileProblem: a file cannot be written.
            SolverError: the weights are not finite; nothing is written.
        """
        self._train_step.read_loss()
        self._display.catch_up()
        state = SolverState(self.iter, "", [], random_seed=self.seed)
        self._policy.save(state)
        self._train_step.save(state)
        diffs = bool(self._message.snapshot_diff)
        with self.activity.during("writing the snapshot"):
            return self._snapshot_writer.write(self.net, self._optimizer, state, diffs)

    def _try_snapshot(self) -> None:
        """Writes a snapshot during the training; a failure to write does not end it."""
        try:
            self.snapshot()
        except FileProblem as error:
            self._snapshot_writer.report_failure(self.iter, error)
        except NotFinite as error:
            if self._stop_on_nan:
                raise
            self._log.warning(str(error))

    def _wants_last_snapshot(self) -> bool:
        saved = self._snapshot_writer.has(self.iter)
        due = is_due(self._message.snapshot, self.iter)
        # Iteration 0 is a multiple of each interval, and counts as saved in Caffe.
        wanted = bool(self._message.snapshot_after_train) and not (due and (saved or not self.iter))
        return not saved if self.preempted else wanted

    def restore(self, path: str | os.PathLike[str]) -> str | None:
        """Resumes from a solver state: iteration, weights, history, position in the data.

        If the state has another seed and the definition has no ``random_seed``, the nets are built
        again with that seed; :attr:`net` and :attr:`test_nets` are then new objects.

        Returns:
            The file of the weights, or None if the state names none.

        Raises:
            FileProblem: the state or its weights are missing.
            FormatError, SolverError, WeightsError: they are damaged or do not fit.
        """
        path = os.fspath(path)
        state = load_state(path, self._prepared.settings.max_bytes)
        self._log.info(f"Restoring previous solver status from {path}")
        stored = self.seed if state.random_seed is None else state.random_seed
        seed = self._choose_seed(stored)
        if seed != self.seed:
            weights = self.net.to_weights()
            self.close()
            self._build_nets(seed)
            self.net.load_weights(weights)
        return self._apply_state(state, path)

    def _apply_state(self, state: SolverState, path: str) -> str | None:
        learned = find_learned_net(state, path)
        self._optimizer.check(state, path)
        load_learned(self.net, learned, path, self._log)
        if not path.endswith(".h5"):
            self._log.info("SGDSolver: restoring history")
        self._optimizer.restore(state)
        self._process_group.broadcast_tensors([entry.tensor for entry in self.net.learnable])
        self._train_step.load(state)
        self.iter = state.iteration
        self._policy.load(state)
        self._snapshot_writer.resumed_from(state.iteration, path)
        return None if learned is None else learned.path
