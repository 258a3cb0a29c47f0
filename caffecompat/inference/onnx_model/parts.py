"""A batch in parts, of which each thread computes one after the other from beginning to end.

Threads that share the work of each layer wait for each other after each. Parts need no waiting, and
the blobs of a single image stay in the caches of one core.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np

from caffecompat.export.inputs.input_sizes import Freedom, possible_sizes
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer

# Runs a model in one thread: the outputs for the inputs, both in the model's order. The outputs
# are gapless and belong to the caller.
Run: TypeAlias = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

# Numbers. Single rows are parts where a row's largest blob has so many, so that the work on it is
# worth a part, ...
LEAST_BLOB = 1 << 14
# ... and no layer reads so many weights for one row that they come from memory each time.
MOST_WEIGHTS = 1 << 23


class PartsRun:
    """Runs a batch in parts.

    Args:
        workers: what runs a part in one thread, one for each thread.
        single_rows: whether each row is a part; else there are as many parts as threads.
    """

    def __init__(self, workers: Sequence[Run], single_rows: bool) -> None:
        self._workers = list(workers)
        self._single_rows = single_rows
        self._threads = _OtherThreads(len(self._workers) - 1)

    def __call__(self, arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        """The outputs of the whole batch; all arrays have as many rows."""
        rows = len(arrays[0])
        bounds = self._bounds(rows)
        if len(bounds) < 2:
            return self._workers[0](arrays)
        found: list[Sequence[np.ndarray]] = [()] * len(bounds)
        # Threads take the next part when they are done with one: next() is atomic.
        parts = iter(enumerate(bounds))

        def work(run: Run, parts: Iterator[tuple[int, tuple[int, int]]]) -> None:
            for index, (start, end) in parts:
                found[index] = run([array[start:end] for array in arrays])

        others = [
            self._threads.submit(work, worker, parts) for worker in self._workers[1 : len(bounds)]
        ]
        try:
            work(self._workers[0], parts)
        finally:
            # The arrays belong to the caller again when all threads are done.
            problems = [other.exception() for other in others]
        for problem in problems:
            if problem is not None:
                raise problem
        return [np.concatenate(values) for values in zip(*found, strict=True)]

    def _bounds(self, rows: int) -> list[tuple[int, int]]:
        """First and last row of each part, the last exclusive."""
        count = rows if self._single_rows else min(rows, len(self._workers))
        edges = [rows * part // count for part in range(count + 1)] if count else [0, rows]
        return list(pairwise(edges))


class _OtherThreads:
    """Threads beside the calling one; a process that was forked has none and starts its own."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._process = 0
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[..., None], *arguments: object) -> Future[None]:
        if self._pool is None or self._process != os.getpid():
            self._process = os.getpid()
            self._pool = ThreadPoolExecutor(self._count, "parts of a batch")
        return self._pool.submit(work, *arguments)


def reason_against_parts(net: Net) -> str:
    """Why parts of a batch would not give what the whole batch gives; empty if they do."""
    for built in net.layers:
        if built.layer is not None and built.layer.batch_coupling is not None:
            return f"{_named(built)} {built.layer.batch_coupling}"
    shapes_only = Net(net.definition, phase="test", shapes_only=True, dialect=net.dialect)
    sizes = possible_sizes(shapes_only, Freedom.BATCH)
    if sizes is None:
        return "its inputs have no batch of their own"
    feeds = net.program().feeds
    rows = {tuple(shape[0] for shape in sizes.shapes[feed]) for feed in feeds}
    for built in net.layers:
        for top in built.tops:
            found = tuple(shape[0] if shape else 0 for shape in sizes.shapes[top])
            if {found} != rows or len(set(found)) != len(found):
                return f"the first axis of the tops of {_named(built)} is not that of the inputs"
    return ""


def takes_single_rows(net: Net) -> bool:
    """Whether rows one by one are faster than one part for each thread.

    Convolutions use a weight for all pixels of a row, inner products for one number: they would
    read weights that the caches do not hold anew for each row.
    """
    largest = max((prod(shape[1:]) for b in net.layers for shape in b.shapes), default=0)
    heaviest = max((_weights_read_once(built) for built in net.layers), default=0)
    return largest >= LEAST_BLOB and heaviest <= MOST_WEIGHTS


def _weights_read_once(built: BuiltLayer) -> int:
    """The weights of a layer that multiplies each by one number of a row."""
    if built.module is None or not built.shapes:
        return 0
    pixels = prod(built.shapes[0][2:])
    return sum(p.numel() for p in built.module.parameters()) if pixels == 1 else 0


def _named(built: BuiltLayer) -> str:
    return f"layer {built.name!r} ({built.type})"
