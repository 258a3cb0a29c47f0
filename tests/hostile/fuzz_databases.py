"""Reads damaged databases, one after the other, under a cap on memory and time.

Run by ``test_fuzz_databases.py`` in a process of its own, so that a signal or a hang is seen; or
by hand::

    python -m tests.hostile.fuzz_databases lmdb --seed 0 --count 50000

Every seed is one input. Anything but a CaffeError of one sentence ends the run with the seed on
the last line; the file ``--status`` always holds the seed that is being tried.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from caffecompat.data.database import open_database
from caffecompat.errors import CaffeError
from tests.hostile.database_mutations import damaged_pages, lmdb_files

MEMORY = 1 << 30
SECONDS_PER_INPUT = 10

# Reads one input of a seed; gives the number of sentences that it got.
Trial = Callable[[int], int]


def lmdb_trial(folder: Path) -> Trial:
    files = lmdb_files(folder)
    path = folder / "lmdb"
    path.mkdir()

    def run(seed: int) -> int:
        chance = random.Random(f"lmdb:{seed}")
        data = damaged_pages(chance.choice(files), chance)
        (path / "data.mdb").write_bytes(data)
        cut = chance.randrange(len(data) + 1) if chance.random() < 0.1 else None
        return read_database(path, chance, cut)

    return run


def read_database(path: Path, chance: random.Random, cut: int | None = None) -> int:
    """Everything in a database, in order and by jumps; the file is cut off in between."""
    refused = 0
    try:
        database = open_database(path)
    except CaffeError as error:
        check_sentence(error)
        return 1
    with database:
        count = len(database)
        jumps = [chance.randrange(count) for _ in range(min(count, 20))]
        for step, index in enumerate([*range(min(count, 2000)), *jumps]):
            if step == count // 2 and cut is not None:
                os.truncate(path / "data.mdb", cut)
            try:
                database.read(index)
            except CaffeError as error:
                check_sentence(error)
                refused += 1
        try:
            keys = list(database.keys())
            assert len(keys) == count
            assert keys == sorted(set(keys))
        except CaffeError as error:
            check_sentence(error)
            refused += 1
    return refused


def check_sentence(error: CaffeError) -> None:
    text = str(error)
    assert text.strip()
    assert "\n" not in text
    assert len(text) < 600


TRIALS: dict[str, Callable[[Path], Trial]] = {"lmdb": lmdb_trial}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=TRIALS)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--status", help="file that holds the seed being tried")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = os.open(arguments.status or os.devnull, os.O_WRONLY | os.O_CREAT)
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        trial = TRIALS[arguments.kind](Path(folder))
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            os.pwrite(status, b"%-20d" % seed, 0)
            signal.alarm(SECONDS_PER_INPUT)
            try:
                refused += trial(seed) > 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
                sys.stdout.write(f"seed {seed}\n")
                return 1
            signal.alarm(0)
    sys.stdout.write(f"{arguments.count} inputs of kind {arguments.kind}, {refused} refused\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
