"""Callbacks: objects that are told what a training does, such as progress bars and TensorBoard."""

from __future__ import annotations

from typing import Protocol

from caffecompat.net import Net
from caffecompat.reporting.activity import Activity, Task
from caffecompat.solver.scores import Scores


class Training(Protocol):
    """What callbacks may ask of the :class:`caffecompat.Solver` that calls them.

    Attributes:
        net: the train net.
        test_nets: the test nets.
        iter: updates made so far.
        rate: the learning rate of the last update.
        activity: what the solver is doing at this moment.
        callbacks: all callbacks, in the order in which they are called.
        tests_made, seconds_testing: how many tests there were, and how long all of them took.
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
        """The loss as it is displayed: the mean over the last ``average_loss`` iterations."""
        ...

    @property
    def images_per_iteration(self) -> int | None:
        """Images that an update has seen; None for a net without data layers."""
        ...

    def displays(self, iteration: int) -> bool:
        """Whether the log shows ``iteration``."""
        ...

    @property
    def max_iter(self) -> int:
        """The iteration that the training goes to."""
        ...


class Callback:
    """Base of all callbacks; add one to ``solver.callbacks``. Its methods do nothing."""

    def iterated(self, solver: Training) -> None:
        """After each update; ``solver.iter`` counts it already. Must not wait for the device."""

    def displayed(self, solver: Training, outputs: dict[str, list[float]]) -> None:
        """At each displayed iteration, which is ``solver.iter``, before its update.

        Args:
            outputs: the elements of the train net's outputs by blob name.
        """

    def busy(self, moment: Task, now: float) -> None:
        """Several times a second, from another thread, while a pass goes on.

        Args:
            moment: what is being done.
            now: the time by the monotonic clock, in seconds.
        """

    def tested(self, solver: Training, net: int, scores: Scores) -> None:
        """After a test of test net number ``net``."""
