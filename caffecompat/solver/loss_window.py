"""The displayed loss: a mean over the last ``average_loss`` iterations."""

from __future__ import annotations

import math

import numpy as np
import torch


class LossWindow:
    """Mean of the last ``length`` losses, updated incrementally in float32 as Caffe's log shows it.

    Losses come as 0-axis tensors and are read from the device only when :attr:`value` is read.
    """

    # At most this many losses stay on the device in runs that display nothing.
    _MAX_UNREAD = 128

    def __init__(self, length: int) -> None:
        self._length = length
        self._losses: list[np.float32] = []
        self._smoothed = np.float32(0)
        self._added = 0
        self._unread: list[tuple[int, torch.Tensor]] = []
        self._first_nonfinite: int | None = None

    def add(self, iteration: int, loss: torch.Tensor) -> None:
        """Adds the loss of ``iteration``."""
        self._unread.append((iteration, loss))
        if len(self._unread) >= self._MAX_UNREAD:
            self.read_all()

    @property
    def value(self) -> float:
        """The mean over the window, or over the losses so far if they are fewer."""
        self.read_all()
        return float(self._smoothed)

    @property
    def first_nonfinite(self) -> int | None:
        """The first iteration whose loss was not finite, among the losses read so far."""
        return self._first_nonfinite

    def read_all(self) -> None:
        """Reads the losses that are still on the device."""
        if not self._unread:
            return
        found = [loss for _, loss in self._unread]
        # A script that steps one by one reads each.
        if len(found) == 1:
            losses = [found[0].float().item()]
        else:
            losses = torch.stack([loss.float() for loss in found]).tolist()
        for (iteration, _), loss in zip(self._unread, losses, strict=True):
            if self._first_nonfinite is None and not math.isfinite(loss):
                self._first_nonfinite = iteration
            self._enter(np.float32(loss))
        self._unread.clear()

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
            # A loss that is not finite would stay in an incremental mean forever.
            if not np.isfinite(self._smoothed) and np.isfinite(self._losses).all():
                self._smoothed = np.mean(self._losses, dtype=np.float32)
        self._added += 1
