"""Who wants to know what a training does: progress bars, TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffecompat.reporting.activity import Task
    from caffecompat.solver.solver import Solver
    from caffecompat.solver.test_nets import Scores


class Callback:
    """Told by a :class:`Solver` that has it among its ``callbacks``; does nothing by itself."""

    def iterated(self, solver: Solver) -> None:
        """After each update; ``solver.iter`` counts it already. Must not wait for the device."""

    def displayed(self, solver: Solver, outputs: dict[str, list[float]]) -> None:
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

    def tested(self, solver: Solver, net: int, scores: Scores) -> None:
        """After a test of test net number ``net``."""
