"""Threads that each run whole sequences of operators, instead of sharing the work of each.

Threads that share an operator wait for each other at its end. In a sequence of small ones they wait
more than they work if anything else runs on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import TypeVar

import torch

Item = TypeVar("Item")


class SingleThreads:
    """As many threads as torch has, in which its operators run in one thread.

    They are started when they are first needed, and again when ``torch.set_num_threads`` has been
    called since.
    """

    def __init__(self) -> None:
        self._count = 0
        self._pool: ThreadPoolExecutor | None = None

    def for_each(self, work: Callable[[Item], None], items: Sequence[Item]) -> None:
        """Calls ``work`` with each item, in any order; the first error is raised."""
        count = torch.get_num_threads()
        if count == 1 or len(items) == 1 or not _sets_threads_of_each_thread():
            for item in items:
                work(item)
            return
        pool = self._started(count)
        inference = torch.is_inference_mode_enabled()
        # Threads take the next item when they are done with one: next() is atomic.
        left = iter(items)

        def run(left: Iterator[Item]) -> None:
            with torch.inference_mode() if inference else torch.no_grad():
                for item in left:
                    work(item)

        running = [pool.submit(run, left) for _ in range(min(count, len(items)))]
        problems = [one.exception() for one in running]
        for problem in problems:
            if problem is not None:
                raise problem

    def _started(self, count: int) -> ThreadPoolExecutor:
        if self._pool is None or self._count != count:
            self._pool = ThreadPoolExecutor(count, "torch in one thread")
            self._count = count
            together = Barrier(count)

            def start() -> None:
                # Each of the jobs is in another thread, since all wait for all.
                together.wait()
                torch.get_num_threads()  # the first call in a thread sets it to the usual number
                torch.set_num_threads(1)

            for job in [self._pool.submit(start) for _ in range(count)]:
                job.result()
            # The number of threads belongs to the thread that sets it, and is what new threads
            # begin with.
            torch.set_num_threads(count)
        return self._pool


@lru_cache(maxsize=1)
def _sets_threads_of_each_thread() -> bool:
    """Whether ``torch.set_num_threads`` is for the thread that calls it, as with OpenMP."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
