"""Moving inputs to their device while it is busy with the pass before."""

from __future__ import annotations

import torch


class Transfer:
    """Copies batches to a device.

    To a GPU they go from page-locked memory on a stream of their own: the processor hands over a
    pass without waiting for it, so that the next batch travels while the last one is worked on.
    What uses the batch waits for it on the device.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

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
        # The allocator gives a page-locked block out again only when copies from it are done.
        locked = tensor if tensor.is_pinned() else tensor.pin_memory()
        with torch.cuda.stream(stream):
            value = locked.to(device, non_blocking=True).contiguous(memory_format=_dense(form))
        user.wait_stream(stream)
        value.record_stream(user)
        return value


def _dense(form: torch.memory_format) -> torch.memory_format:
    return torch.contiguous_format if form is torch.preserve_format else form
