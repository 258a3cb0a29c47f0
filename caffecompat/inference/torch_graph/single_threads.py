"""Threads that each run whole sequences of operators, instead of sharing the work of each.

Threads that share an operator wait for each other at its end. In a sequence of small ones they wait
more than they work if anything else runs on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, local
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
        self._own = local()

    def buffers(self, count: int, numbers: int) -> list[torch.Tensor]:
        """Memory of the calling thread for some float32 numbers each, whatever they are before.

        It stays with the thread: glibc gives large blocks of threads back to the kernel, which
        fills the pages of the next ones with zeros.
        """
        kept: list[torch.Tensor] = getattr(self._own, "buffers", [])
        if len(kept) < count or len(kept[0]) < numbers:
            # Tensors of inference mode could not be written to outside of it.
            with torch.inference_mode(False):
                kept = [_floats(numbers) for _ in range(count)]
            self._own.buffers = kept
        return kept

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


def _floats(count: int) -> torch.Tensor:
    # The user's defaults may be others.
    return torch.empty(count, dtype=torch.float32, device="cpu")


@lru_cache(maxsize=1)
def _sets_threads_of_each_thread() -> bool:
    """Whether ``torch.set_num_threads`` is for the thread that calls it, as with OpenMP."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
