"""The displayed loss: a mean over the last ``average_loss`` iterations."""

from __future__ import annotations

import math

import numpy as np
import torch


class LossWindow:
    """Mean of the last ``length`` losses, updated incrementally in float32 as Caffe's log shows it.

    Losses come as 0-axis tensors and are read from the device only when a value is asked for.
    """

    # Reading now and then keeps what waits on the device small in runs that display nothing.
    _MOST_WAITING = 128

    def __init__(self, length: int) -> None:
        self._length = length
        self._losses: list[np.float32] = []
        self._smoothed = np.float32(0)
        self._added = 0
        self._waiting: list[tuple[int, torch.Tensor]] = []
        self._broken: int | None = None

    def add(self, iteration: int, loss: torch.Tensor) -> None:
        """Enters the loss of ``iteration``."""
        self._waiting.append((iteration, loss))
        if len(self._waiting) >= self._MOST_WAITING:
            self.settle()

    @property
    def value(self) -> float:
        """The mean over the window, or over what has been entered so far."""
        self.settle()
        return float(self._smoothed)

    @property
    def broken(self) -> int | None:
        """The first iteration whose loss was not a finite number, among those read so far."""
        return self._broken

    def settle(self) -> None:
        """Reads the losses that still are on the device."""
        if not self._waiting:
            return
        losses = torch.stack([loss.float() for _, loss in self._waiting]).tolist()
        for (iteration, _), loss in zip(self._waiting, losses, strict=True):
            if self._broken is None and not math.isfinite(loss):
                self._broken = iteration
            self._enter(np.float32(loss))
        self._waiting.clear()

    def _enter(self, loss: np.float32) -> None:
        with np.errstate(all="ignore"):
            if len(self._losses) < self._length:
                self._losses.append(loss)
                size = len(self._losses)
                total = self._smoothed * np.float32(size - 1) + loss
                self._smoothed = total / np.float32(size)
            else:
                place = self._added % self._length
                self._smoothed += (loss - self._losses[place]) / np.float32(self._length)
                self._losses[place] = loss
            # A loss that was not finite would stay in an incremental mean for ever.
            if not np.isfinite(self._smoothed) and np.isfinite(self._losses).all():
                self._smoothed = np.mean(self._losses, dtype=np.float32)
        self._added += 1
