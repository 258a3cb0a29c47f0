"""What passes of a net change, as it was before them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from caffecompat.net.net import Net


class KeptState:
    """A copy of what passes of a net change: buffers, such as BatchNorm's statistics, and the state
    of layers that hand something on to the next pass, such as LSTM.

    Args:
        net: in place of whose buffers new tensors must not be put.
    """

    def __init__(self, net: Net) -> None:
        modules = [built.module for built in net.layers if built.module is not None]
        found = {id(buffer): buffer for module in modules for buffer in module.buffers()}
        self._tensors = list(found.values())
        self._copies: list[torch.Tensor] | None = None
        self._layers = [b.layer for b in net.layers if b.layer is not None and b.layer.keeps_state]
        self._states: list[Any] = []

    def keep(self) -> None:
        """Copies them, in place of an earlier copy; work of the device alone."""
        # Layers put a new state in place of the one before.
        self._states = [getattr(layer, "state", None) for layer in self._layers]
        if self._tensors:
            self._copy()

    @torch.no_grad()
    def _copy(self) -> None:
        if self._copies is None:
            self._copies = [tensor.clone() for tensor in self._tensors]
        else:
            torch._foreach_copy_(self._copies, self._tensors)

    @torch.no_grad()
    def restore(self) -> None:
        """Sets them to the values of the last :meth:`keep`."""
        if self._copies:
            torch._foreach_copy_(self._tensors, self._copies)
        for layer, state in zip(self._layers, self._states, strict=True):
            setattr(layer, "state", state)  # noqa: B010


@contextmanager
def unchanged_by(net: Net, error: type[BaseException]) -> Iterator[KeptState]:
    """Restores what passes inside of it have changed, after an exception of type ``error``."""
    kept = KeptState(net)
    kept.keep()
    try:
        yield kept
    except error:
        kept.restore()
        raise
