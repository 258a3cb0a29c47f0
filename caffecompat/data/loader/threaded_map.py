"""A map whose function runs in threads, with ordered results and bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from caffecompat.data.loader.workers import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_AHEAD = 64


def threaded_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    ahead: int = _ITEMS_AHEAD,
) -> Generator[Result, None, None]:
    """Yields ``function(item)`` for each item, in order; raises an error in place of its result.

    The threads end when the generator is exhausted or closed.

    Args:
        function: called in the threads.
        items: iterated in the calling thread.
        workers: number of threads; None for :func:`usable_cores`.
        ahead: number of results that may wait to be yielded.
    """
    pool = ThreadPoolExecutor(workers or usable_cores())
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
