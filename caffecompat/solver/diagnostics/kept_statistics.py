"""Statistics that passes change, such as BatchNorm's, as they were before an iteration."""

from __future__ import annotations

import torch

from caffecompat.net import Net


class KeptStatistics:
    """Keeps the statistics of a net before each of the last two iterations.

    The host may learn that a loss is not finite while the pass of the next iteration runs.

    Args:
        net: whose layers' buffers are kept, in place of which new tensors must not be put.
    """

    def __init__(self, net: Net) -> None:
        modules = [built.module for built in net.layers if built.module is not None]
        found = {id(b): b for module in modules for b in module.buffers()}
        self._tensors = list(found.values())
        self._kept: dict[int, tuple[int, list[torch.Tensor]]] = {}

    @torch.no_grad()
    def keep(self, iteration: int) -> None:
        """Copies them, before the passes of ``iteration``; work of the device alone."""
        if not self._tensors:
            return
        if iteration % 2 in self._kept:
            copies = self._kept[iteration % 2][1]
            torch._foreach_copy_(copies, self._tensors)
        else:
            copies = [tensor.clone() for tensor in self._tensors]
        self._kept[iteration % 2] = iteration, copies

    @torch.no_grad()
    def restore(self, iteration: int) -> None:
        """Sets them to what they were before ``iteration``, if that is known."""
        kept, copies = self._kept.get(iteration % 2, (-1, []))
        if kept == iteration:
            torch._foreach_copy_(self._tensors, copies)
