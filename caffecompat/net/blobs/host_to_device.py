"""Copies of inputs to the device that overlap with the previous pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class Transfer:
    """Copies batches to a device.

    Copies to a GPU use page-locked memory and a separate stream. The host does not wait for a pass
    to end, so that the next batch is copied during the pass; on the device, the stream that uses
    the batch waits for the copy.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        # Copies from memory of page_locked() that may not have ended.
        self._under_way: list[tuple[torch.cuda.Event, torch.Tensor]] = []

    def move(
        self, tensor: torch.Tensor, device: torch.device, form: torch.memory_format
    ) -> torch.Tensor:
        """``tensor`` on ``device`` in the memory format ``form``; gradients pass through."""
        if device.type != "cuda" or tensor.device.type != "cpu" or tensor.requires_grad:
            return tensor.to(device, non_blocking=True, memory_format=form)
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        stream = self._streams[device]
        user = torch.cuda.current_stream(device)
        # The allocator reuses a page-locked block only after the copies from it have ended.
        locked = tensor if tensor.is_pinned() else tensor.pin_memory()
        with torch.cuda.stream(stream):
            value = locked.to(device, non_blocking=True).contiguous(memory_format=_dense(form))
        self._keep_until_copied(locked, stream)
        user.wait_stream(stream)
        value.record_stream(user)
        return value

    def _keep_until_copied(self, locked: torch.Tensor, stream: torch.cuda.Stream) -> None:
        """Keeps the memory of an array from being used for another batch during its copy."""
        event = torch.cuda.Event()
        event.record(stream)
        unfinished = [entry for entry in self._under_way if not entry[0].query()]
        self._under_way = [*unfinished, (event, locked)]


def page_locked(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array in page-locked memory, from which a GPU copies without the host's help.

    Ordinary memory where there is none left, or no GPU.
    """
    try:
        block = torch.empty(size * dtype.itemsize, dtype=torch.uint8, pin_memory=True)
    except RuntimeError:
        return np.empty(size, dtype)
    return block.numpy().view(dtype)


def _dense(form: torch.memory_format) -> torch.memory_format:
    return torch.contiguous_format if form is torch.preserve_format else form
