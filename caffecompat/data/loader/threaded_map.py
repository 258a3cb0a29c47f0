"""Work done by threads ahead of the one that uses its results, in order and in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST_WORKERS = 16
_ITEMS_AHEAD = 64


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result, None, None]:
    """``function`` of each item, in order; an error arrives in the place of its result.

    Close the generator, or use it up, to end the threads.

    Args:
        function: run in threads.
        items: asked for one by one in the calling thread.
        workers: how many threads; None takes one per core, at most 16.
    """
    pool = ThreadPoolExecutor(workers or min(_MOST_WORKERS, os.cpu_count() or 1))
    ahead: deque[Future[Result]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > _ITEMS_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
