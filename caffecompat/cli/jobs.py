"""Log and progress of the verbs that process many records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffecompat.reporting.progress import Progress


@contextmanager
def logged_progress(unit: str = "records") -> Iterator[Progress]:
    """Log lines on standard error, and a function to call with (done, in all)."""
    from caffecompat.reporting.glog import log_to
    from caffecompat.reporting.progress import console_handler, show_progress

    with log_to(console_handler()), show_progress(unit) as progress:
        yield progress
