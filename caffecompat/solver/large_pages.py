"""The callback that moves the memory of a training to large pages."""

from __future__ import annotations

import logging
from math import prod

from caffecompat.large_pages import collapse_memory
from caffecompat.net import Net
from caffecompat.solver.callbacks import Callback, Training

# All memory of a training is in use long before. The move takes as long as a few iterations, and as
# 17 were measured where the host had to find the memory first: a short training would lose.
UPDATES = 50
# Bytes of parameters and blobs. The processor keeps the addresses of less in small pages, too.
LEAST = 64 << 20
_BYTES = 4


class LargePages(Callback):
    """Moves the memory of the process to pages of 2 MB once, on the CPU; see ``large_pages.py``.

    It changes no value. Small nets and kernels that have no such call are left alone.

    Args:
        log: for the line that says how much has moved.
    """

    changes_weights = False

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._updates = 0

    def iterated(self, solver: Training) -> None:
        """Called after each update."""
        self._updates += 1
        if self._updates != UPDATES or not _gains(solver.net):
            return
        with solver.activity.during("moving memory to pages of 2 MB"):
            pages = collapse_memory()
        if pages.bytes:
            self._log.info(f"For speed: {pages} (--no-large-pages leaves them out).")


def _gains(net: Net) -> bool:
    """Whether passes of ``net`` read so much memory of the host that large pages matter."""
    shapes = [shape for built in net.layers for shape in built.shapes]
    shapes += [parameter.shape for parameter in net.parameters()]
    return net.device.type == "cpu" and _BYTES * sum(map(prod, shapes)) >= LEAST
