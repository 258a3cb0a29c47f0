"""The end of a rank whose torchrun has been killed."""

from __future__ import annotations

import os
import signal
import threading
import time

_INTERVAL = 0.5


def follow_launcher() -> None:
    """Sends this process SIGTERM once the process that has started it is gone.

    A training then writes a snapshot and ends on all ranks. Otherwise it would go on beside the
    ranks that a new torchrun starts in its place.
    """
    parent = os.getppid()
    name = "caffecompat-launcher-watch"
    threading.Thread(target=_wait_for_end, args=(parent,), name=name, daemon=True).start()


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)
