"""Losses, scores and rates as TensorBoard shows them."""

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
    """Writes scalars.

    At each displayed iteration ``train/mean_loss``, ``train/<output>`` and ``lr``; after each test
    ``test/<output>``, with several test nets ``test0/<output>`` and so on. Curves that cannot be
    written are a warning, once; the training goes on.

    Args:
        folder: where the event file goes; made if it is missing.

    Raises:
        MissingExtra: tensorboard is not installed.
        FileProblem: the folder cannot be written.
    """

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("--tensorboard", "tensorboard") from error
        self._folder = folder
        self._broken = False
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
            self._give_up(error)

    def _write(self, kind: str, outputs: dict[str, list[float]], iteration: int) -> None:
        for name, values in outputs.items():
            for i, value in enumerate(values):
                tag = f"{kind}/{name}" if len(values) == 1 else f"{kind}/{name}/{i}"
                self._add(tag, value, iteration)

    def _add(self, tag: str, value: float, iteration: int) -> None:
        if self._broken:
            return
        try:
            self._writer.add_scalar(tag, value, iteration)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            LOGGER.warning(
                f"{self._folder}: the curves for TensorBoard cannot be written: "
                f"{error.strerror or error}; the training goes on without them"
            )


@contextmanager
def tensorboard(solver: Training, folder: str) -> Iterator[None]:
    """Lets TensorBoard follow ``solver`` while the context lasts; nothing for an empty name."""
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
    """Keeps TensorBoard's thread from printing a traceback: who writes next gets its error."""
    before = threading.excepthook

    def answer(failure: threading.ExceptHookArgs) -> None:
        writes = type(failure.thread).__module__.startswith("tensorboard.")
        if not (writes and isinstance(failure.exc_value, OSError)):
            before(failure)

    threading.excepthook = answer
    try:
        yield
    finally:
        threading.excepthook = before
