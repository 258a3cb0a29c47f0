"""Callbacks, which a training calls at its events; progress bars and TensorBoard are some."""

from __future__ import annotations

from typing import Protocol

from caffecompat.net import Net
from caffecompat.reporting.activity import Activity, Task
from caffecompat.solver.scores import Scores


class Training(Protocol):
    """The part of :class:`caffecompat.Solver` that callbacks may use.

    Attributes:
        net: the train net.
        test_nets: the test nets.
        iter: updates made so far.
        rate: the learning rate of the last update.
        activity: what the solver is doing now.
        callbacks: all callbacks, in the order in which they are called.
        tests_made, seconds_testing: number of tests, and their total time in seconds.
    """

    net: Net
    test_nets: list[Net]
    iter: int
    rate: float
    activity: Activity
    callbacks: list[Callback]
    tests_made: int
    seconds_testing: float

    @property
    def loss(self) -> float:
        """The displayed loss: the mean over the last ``average_loss`` iterations."""
        ...

    @property
    def images_per_iteration(self) -> int | None:
        """Images per update; None for a net without data layers."""
        ...

    def displays(self, iteration: int) -> bool:
        """Whether the log shows ``iteration``."""
        ...

    @property
    def max_iter(self) -> int:
        """The iteration at which the training ends."""
        ...


class Callback:
    """Base class of callbacks, which are added to ``solver.callbacks``; its methods do nothing.

    Attributes:
        changes_weights: whether a method may change parameters of the train net. If no callback
            does, a captured training in bf16 need not look for such changes.
    """

    changes_weights = True

    def iterated(self, solver: Training) -> None:
        """Called after each update, which ``solver.iter`` counts. Must not wait for the device."""

    def displayed(self, solver: Training, outputs: dict[str, list[float]]) -> None:
        """Called at each displayed iteration, ``solver.iter``, before its update.

        Args:
            outputs: the elements of the train net's outputs by blob name.
        """

    def busy(self, task: Task, now: float) -> None:
        """Called several times a second, from another thread, during a pass.

        Args:
            task: the task in progress.
            now: the time of the monotonic clock, in seconds.
        """

    def tested(self, solver: Training, net: int, scores: Scores) -> None:
        """Called after a test of test net number ``net``."""


def call_iterated(solver: Training) -> bool:
    """Calls :meth:`Callback.iterated` of all; returns whether one may have changed weights."""
    for callback in solver.callbacks:
        callback.iterated(solver)
    # A callback need not derive from the class.
    return any(getattr(callback, "changes_weights", True) for callback in solver.callbacks)
