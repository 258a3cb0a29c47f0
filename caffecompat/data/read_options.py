"""Options of reading data, for all kinds of sources."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffecompat.data.shard import Shard


@dataclass(frozen=True)
class ReadOptions:
    """Options of everything that reads batches.

    Attributes:
        seed: everything random is a pure function of it and of the running number of the sample.
        workers: threads that decode; None takes one per usable core, at most 16. The batches do
            not depend on it.
        skip_corrupt: replace a record that cannot be read or decoded by the next good one; each
            one is logged once. Records of an unfit size are errors nevertheless.
        shard: the part of each batch that is read. The parts of all ranks are, pixel for pixel,
            the batch that one process would read.
        max_bytes: the largest list or other text file to read; None for the limit of each kind.
    """

    seed: int = 0
    workers: int | None = None
    skip_corrupt: bool = False
    shard: Shard = field(default_factory=Shard)
    max_bytes: int | None = None


DEFAULTS = ReadOptions()
