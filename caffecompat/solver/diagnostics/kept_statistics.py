"""Statistics that passes change, such as BatchNorm's, as they were before an iteration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from caffecompat.net import Net
from caffecompat.solver.diagnostics.nonfinite import NotFinite


class KeptStatistics:
    """Keeps the statistics of a net, and the states of its recurrent layers, before each of the
    last two iterations.

    The host may learn that a loss is not finite while the pass of the next iteration runs.

    Args:
        net: whose layers' buffers are kept, in place of which new tensors must not be put.
    """

    def __init__(self, net: Net) -> None:
        modules = [built.module for built in net.layers if built.module is not None]
        found = {id(b): b for module in modules for b in module.buffers()}
        self._tensors = list(found.values())
        self._kept: dict[int, tuple[int, list[torch.Tensor]]] = {}
        self._recurrent = [b.layer for b in net.layers if getattr(b.layer, "keeps_state", False)]
        self._states: dict[int, list[Any]] = {}

    @contextmanager
    def unchanged_by_failures(self, iteration: int) -> Iterator[None]:
        """Keeps them before the passes of ``iteration``, and restores them after an exception, such
        as KeyboardInterrupt in a notebook or that of a Python layer: it can be made again then.
        """
        self.keep(iteration)
        try:
            yield
        except NotFinite:
            raise  # it may be about the iteration before, whose statistics it has restored
        except BaseException:
            self.restore(iteration)
            raise

    @torch.no_grad()
    def keep(self, iteration: int) -> None:
        """Copies them, before the passes of ``iteration``; work of the device alone."""
        self._states[iteration % 2] = [getattr(one, "state", None) for one in self._recurrent]
        if iteration % 2 in self._kept:
            copies = self._kept[iteration % 2][1]
            if copies:
                torch._foreach_copy_(copies, self._tensors)
        else:
            copies = [tensor.clone() for tensor in self._tensors]
        self._kept[iteration % 2] = iteration, copies

    @torch.no_grad()
    def restore(self, iteration: int) -> None:
        """Sets them to what they were before ``iteration``, if that is known."""
        kept, copies = self._kept.get(iteration % 2, (-1, []))
        if kept != iteration:
            return
        if copies:
            torch._foreach_copy_(self._tensors, copies)
        for layer, state in zip(self._recurrent, self._states[iteration % 2], strict=True):
            setattr(layer, "state", state)  # noqa: B010
