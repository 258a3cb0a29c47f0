"""New databases made of old ones, record by record: memory stays bounded, a crash leaves no half.

New keys are eight digits in the new order, ``_`` and the old key without its number, as
convert_imageset makes them. Databases that keep the order keep the keys.
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
    """All records of several databases, one database after the other; returns how many.

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
    """The records in an order that depends on ``seed`` alone; returns how many.

    They are read here and there and written one after the other, so that training reads on.

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
    """Two databases, the first with ``fraction`` of the records, drawn at random; their sizes.

    Each record is in one of them, in its old order under its old key. Both appear at the end.

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
    """``count`` records drawn at random, in their old order under their old keys.

    Raises:
        FileProblem, DataError: as :func:`merge`; there are not that many records.
    """
    if not 0 < count <= len(source):
        raise DataError(
            f"{source.path}: {count} records were asked for, it has {len(source)}; give a number "
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
