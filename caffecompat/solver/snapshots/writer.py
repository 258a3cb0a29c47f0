"""The snapshot writer of a run, which records the last good snapshot."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext

from caffecompat.errors import FileProblem
from caffecompat.net import Net
from caffecompat.solver.diagnostics.nonfinite import NotFinite, tensors_are_finite
from caffecompat.solver.optim.optimizer import Optimizer
from caffecompat.solver.snapshots.prefix_lock import PrefixLock
from caffecompat.solver.snapshots.resume import remove_unfinished
from caffecompat.solver.snapshots.snapshot_files import SnapshotFiles, write_pair
from caffecompat.weights import SolverState


class SnapshotWriter:
    """Writes the snapshots of a run.

    Args:
        files: names of the files.
        place: the solver's file, for messages.
        log: for the lines.
        writes: False on all ranks but the first; nothing is then written.
    """

    def __init__(
        self, files: SnapshotFiles, place: str, log: logging.Logger, writes: bool = True
    ) -> None:
        self._writes = writes
        self._files = files
        self._place = place
        self._log = log
        self._last: tuple[int, str] | None = None
        self._lock = PrefixLock(files.prefix, place)

    def check_writable(self, last: int) -> None:
        """Raises SolverError if snapshots of iterations up to ``last`` cannot be written."""
        if self._writes:
            self._files.check_writable(self._place, last)

    def check_unlocked(self) -> None:
        """Raises SolverError if another training writes snapshots with this prefix."""
        if self._writes:
            self._lock.check()

    def locked(self) -> AbstractContextManager[None]:
        """Context in which no other training writes snapshots with this prefix.

        Raises:
            SolverError: another training does so now.
        """
        return self._lock.held() if self._writes else nullcontext()

    @property
    def last(self) -> str | None:
        """The state of the last good snapshot of this run, or the state that it resumed from."""
        return None if self._last is None else self._last[1]

    def clean_up(self) -> None:
        """Removes the unfinished files of killed runs."""
        removed = remove_unfinished(self._files.prefix) if self._writes else []
        if removed:
            text = "removed unfinished files of a killed run: "
            self._log.info(text + ", ".join(removed))

    def has(self, iteration: int) -> bool:
        """Whether the last good snapshot is that of ``iteration``."""
        return self._last is not None and self._last[0] == iteration

    def resumed_from(self, iteration: int, path: str) -> None:
        """Records the state at ``path`` as the last good snapshot."""
        self._last = (iteration, path)

    def write(
        self, net: Net, optimizer: Optimizer, state: SolverState, diffs: bool
    ) -> tuple[str, str]:
        """Writes the weights of ``net`` and the history of ``optimizer``.

        Args:
            state: iteration and other state; weights file and history are filled in.
            diffs: write the last updates too.

        Returns:
            Paths of the two files.

        Raises:
            FileProblem: a file cannot be written.
            NotFinite: the weights are not finite; nothing is written.
        """
        model, path = self._files.model(state.iteration), self._files.state(state.iteration)
        if not self._writes:
            self._last = (state.iteration, path)
            return model, path
        if not tensors_are_finite([entry.tensor for entry in net.learnable]):
            raise NotFinite(
                f"{self._place}: iteration {state.iteration}: the weights are not finite numbers, "
                f"so no snapshot is written; {self.last_good()}"
            )
        kind = "HDF5" if self._files.hdf5 else "binary proto"
        if diffs:
            optimizer.show_updates()
        state.learned_net = model
        state.history = [array.cpu().numpy() for array in optimizer.history]
        state.legacy = [False] * len(state.history)
        self._log.info(f"Snapshotting to {kind} file {model}")
        self._log.info(f"Snapshotting solver state to {kind} file {path}")
        write_pair(net.to_weights(diffs, settings=True), state, path)
        self._last = (state.iteration, path)
        return model, path

    def report_failure(self, iteration: int, error: FileProblem) -> None:
        """Logs that a snapshot during the training cannot be written."""
        self._log.error(
            f"Iteration {iteration}: this snapshot cannot be written, the training goes on; "
            f"{self.last_good()}: {error}"
        )

    def last_good(self) -> str:
        """A clause about the last good snapshot."""
        if self._last is None:
            return "this run has none yet"
        return f"the last one, {self._last[1]}, is kept"
