"""Merging, shuffling, splitting and sampling of databases, record by record in bounded memory.

Where the order changes, new keys are eight digits, ``_``, and the old key without its number, as
in convert_imageset. Otherwise keys are kept. New databases appear when they are complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np

from caffecompat.data.backends.database import (
    Database,
    create_database,
    write_records,
)
from caffecompat.data.counter_rng import permutation
from caffecompat.data.unfinished_output import refuse_existing
from caffecompat.errors import DataError
from caffecompat.reporting.progress import Progress

_NUMBERED = re.compile(rb"[0-9]{8,}_")

Records = Iterable[tuple[bytes, bytes]]


def merge(
    sources: Sequence[Database], target: str, backend: str, progress: Progress | None = None
) -> int:
    """Writes all records of several databases in order; returns their number.

    Raises:
        FileProblem, DataError: ``target`` exists or cannot be written, or a record cannot be read.
    """
    total = sum(map(len, sources))
    records = (source.read(position) for source in sources for position in range(len(source)))
    with create_database(target, backend) as writer:
        write_records(writer, _renumbered(records, total), total, progress)
    return total


def shuffle(
    source: Database, target: str, backend: str, seed: int, progress: Progress | None = None
) -> int:
    """Writes the records in an order that depends only on ``seed``; returns their number.

    Reading is in random order, so that later training reads in sequence.

    Raises:
        FileProblem, DataError: as :func:`merge`.
    """
    order = permutation(seed, len(source), "dataset shuffle")
    records = (source.read(int(position)) for position in order)
    with create_database(target, backend) as writer:
        write_records(writer, _renumbered(records, len(source)), len(source), progress)
    return len(source)


def split(
    source: Database,
    targets: tuple[str, str],
    backend: str,
    fraction: float,
    seed: int,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Splits the records at random, ``fraction`` of them into the first target; returns both sizes.

    Order and keys are kept. Both databases appear at the end.

    Raises:
        FileProblem, DataError: as :func:`merge`; ``fraction`` is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DataError(f"the fraction is {fraction:g}, expected a number between 0 and 1")
    count = round(fraction * len(source))
    order = permutation(seed, len(source), "dataset split")
    parts = (np.sort(order[:count]), np.sort(order[count:]))
    for target in targets:
        refuse_existing(target)
    with ExitStack() as stack:
        writers = [stack.enter_context(create_database(name, backend)) for name in targets]
        done = 0
        for writer, part in zip(writers, parts, strict=True):
            records = (source.read(int(position)) for position in part)
            done = write_records(writer, records, len(source), progress, done)
    return len(parts[0]), len(parts[1])


def sample(
    source: Database,
    target: str,
    backend: str,
    count: int,
    seed: int,
    progress: Progress | None = None,
) -> int:
    """Writes ``count`` records drawn at random; order and keys are kept. Returns ``count``.

    Raises:
        FileProblem, DataError: as :func:`merge`; ``count`` is larger than the number of records.
    """
    if not 0 < count <= len(source):
        raise DataError(
            f"{source.path}: {count} records were requested, it has {len(source)}; give a number "
            "from 1 to that"
        )
    chosen = np.sort(permutation(seed, len(source), "dataset sample")[:count])
    with create_database(target, backend) as writer:
        write_records(writer, (source.read(int(position)) for position in chosen), count, progress)
    return count


def _renumbered(records: Records, total: int) -> Iterator[tuple[bytes, bytes]]:
    digits = max(8, len(str(total - 1)))
    for number, (key, value) in enumerate(records):
        numbered = _NUMBERED.match(key)
        yield b"%0*d_%s" % (digits, number, key[numbered.end() :] if numbered else key), value
