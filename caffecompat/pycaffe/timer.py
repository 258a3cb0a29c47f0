"""Timer: elapsed time, on a GPU after the work that has been queued."""

from __future__ import annotations

import time

import torch

from caffecompat.pycaffe.mode import current_device


class Timer:
    """Measures the time between :meth:`start` and :meth:`stop`, or until now while it runs."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._elapsed = 0.0

    def start(self) -> None:
        """Starts from zero."""
        self._started = self._now()

    def stop(self) -> None:
        """Stops; the elapsed time stays."""
        self._elapsed = self.seconds
        self._started = None

    @property
    def seconds(self) -> float:
        return self._elapsed if self._started is None else self._now() - self._started

    @property
    def ms(self) -> float:
        """Milliseconds."""
        return self.seconds * 1e3

    @property
    def us(self) -> float:
        """Microseconds."""
        return self.seconds * 1e6

    def _now(self) -> float:
        device = current_device()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()
