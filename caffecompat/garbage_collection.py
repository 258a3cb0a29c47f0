"""Work that makes many objects and no garbage, without Python's search for cycles.

Python looks through all objects each time their number has grown by a quarter. torch alone has
more than a hundred thousand, so that one such search takes as long as building a net of some
hundred layers.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collections_paused() -> Iterator[None]:
    """Context, or decorator, without garbage collection; afterwards it is on again if it was."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
