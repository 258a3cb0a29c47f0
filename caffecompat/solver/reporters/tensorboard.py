"""The TensorBoard callback, which writes losses, scores and learning rates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caffecompat.errors import FileProblem, MissingExtra
from caffecompat.reporting.glog import LOGGER
from caffecompat.solver.callbacks import Callback, Training
from caffecompat.solver.scores import Scores


class TensorBoard(Callback):
    """Writes scalars for TensorBoard.

    At each displayed iteration ``train/mean_loss``, ``train/<output>`` and ``lr``; after each test
    ``test/<output>``, with several test nets ``test0/<output>`` and so on. If they cannot
    be written, it logs one warning, and the training continues.

    Args:
        folder: of the event file; created if it is missing.

    Raises:
        MissingExtra: tensorboard is not installed.
        FileProblem: the folder cannot be written.
    """

    changes_weights = False

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("--tensorboard", "tensorboard") from error
        self._folder = folder
        self._failed = False
        try:
            self._writer: Any = SummaryWriter(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FileProblem(f"{folder}: cannot be written: {reason}") from error

    def displayed(self, solver: Training, outputs: dict[str, list[float]]) -> None:
        self._add("train/mean_loss", solver.loss, solver.iter)
        self._write("train", outputs, solver.iter)

    def iterated(self, solver: Training) -> None:
        if solver.displays(solver.iter - 1):
            self._add("lr", solver.rate, solver.iter - 1)

    def tested(self, solver: Training, net: int, scores: Scores) -> None:
        kind = "test" if len(solver.test_nets) == 1 else f"test{net}"
        self._write(kind, scores.outputs, solver.iter)

    def close(self) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self._report_failure(error)

    def _write(self, kind: str, outputs: dict[str, list[float]], iteration: int) -> None:
        for name, values in outputs.items():
            for i, value in enumerate(values):
                tag = f"{kind}/{name}" if len(values) == 1 else f"{kind}/{name}/{i}"
                self._add(tag, value, iteration)

    def _add(self, tag: str, value: float, iteration: int) -> None:
        if self._failed:
            return
        try:
            self._writer.add_scalar(tag, value, iteration)
        except OSError as error:
            self._report_failure(error)

    def _report_failure(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            LOGGER.warning(
                f"{self._folder}: the curves for TensorBoard cannot be written: "
                f"{error.strerror or error}; the training goes on without them"
            )


@contextmanager
def tensorboard(solver: Training, folder: str) -> Iterator[None]:
    """Context in which ``solver`` writes to TensorBoard; does nothing for an empty ``folder``."""
    if not folder:
        yield
        return
    board = TensorBoard(folder)
    solver.callbacks.append(board)
    with _writers_fail_quietly():
        try:
            yield
        finally:
            solver.callbacks.remove(board)
            board.close()


@contextmanager
def _writers_fail_quietly() -> Iterator[None]:
    """Keeps TensorBoard's thread from printing a traceback; the next write raises its error."""
    before = threading.excepthook

    def handle(failure: threading.ExceptHookArgs) -> None:
        writes = type(failure.thread).__module__.startswith("tensorboard.")
        if not (writes and isinstance(failure.exc_value, OSError)):
            before(failure)

    threading.excepthook = handle
    try:
        yield
    finally:
        threading.excepthook = before
