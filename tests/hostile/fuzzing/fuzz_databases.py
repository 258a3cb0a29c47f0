"""Reads damaged databases, one after the other, under a cap on memory and time.

Run by ``test_fuzz_databases.py`` in a process of its own, so that a signal or a hang is seen; or
by hand::

    python -m tests.hostile.fuzzing.fuzz_databases lmdb --seed 0 --count 50000

Every seed is one input. Anything but a CaffeError of one sentence ends the run with the seed on
the last line; the file ``--status`` always holds the seed that is being tried.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffecompat.data.backends.database import guess_backend, open_database
from caffecompat.data.backends.leveldb import LevelDbWriter
from caffecompat.data.backends.lmdb import LmdbWriter
from caffecompat.data.backends.lmdb_check import check_file
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.images import decode_image, image_shape, read_image_file
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.sources.objects.windows import place_window, read_windows
from caffecompat.errors import CaffeError
from caffecompat.proto import schema
from tests.data.databases import datum, encoded_datum
from tests.hostile.fuzzing.database_mutations import (
    damaged_bytes,
    damaged_pages,
    images,
    lmdb_files,
)
from tests.places import COPIES

RECORDED = COPIES / "data" / "db"
# Beside what is taken when a run begins, by libraries for the most part.
MEMORY = 1 << 29
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
        return read_database(path, chance, cut, path / "data.mdb")

    return run


def lmdb_writer_trial(folder: Path) -> Trial:
    """What is gone on with by LMDB's library after it has been checked."""
    files = lmdb_files(folder)
    path = folder / "unfinished"
    path.mkdir()

    def run(seed: int) -> int:
        chance = random.Random(f"lmdb writer:{seed}")
        (path / "data.mdb").write_bytes(damaged_pages(chance.choice(files), chance))
        try:
            writer = LmdbWriter(str(path), map_size=1 << 24)
            for _ in range(3):
                keys = [b"%08d" % chance.randrange(500) for _ in range(20)]
                assert all(isinstance(key in writer, bool) for key in keys)
                sizes = chance.choices((1, 90, 3000, 9000), k=20)
                writer.write((key, bytes(size)) for key, size in zip(keys, sizes, strict=True))
            writer.close()
        except CaffeError as error:
            check_sentence(error)
            return 1
        check_file(path / "data.mdb")
        return 0

    return run


def read_database(path: Path, chance: random.Random, cut: int | None, file: Path) -> int:
    """Everything in a database, in order and by jumps; ``file`` is cut off in between."""
    refused = 0
    try:
        database = open_database(path, guess_backend(path) or "LMDB")
    except CaffeError as error:
        check_sentence(error)
        return 1
    with database:
        count = len(database)
        jumps = [chance.randrange(count) for _ in range(min(count, 20))]
        for step, index in enumerate([*range(min(count, 2000)), *jumps]):
            if step == count // 2 and cut is not None:
                os.truncate(file, cut)
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


def leveldb_writer_trial(folder: Path) -> Trial:
    """What is gone on with by LevelDB's library, which has checksums."""
    importlib.import_module("plyvel")
    source = folder / "source"
    source.mkdir()
    chance = random.Random(1)
    for _ in range(3):  # each opening makes a table of the log
        writer = LevelDbWriter(str(source))
        writer.write((b"%05d" % chance.randrange(300), chance.randbytes(400)) for _ in range(90))
        writer.close()

    def run(seed: int) -> int:
        chance = random.Random(f"leveldb writer:{seed}")
        path = folder / "unfinished"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(source, path)
        victim = chance.choice(sorted(file for file in path.iterdir() if file.stat().st_size))
        victim.write_bytes(damaged_bytes(victim.read_bytes(), chance, 64))
        try:
            writer = LevelDbWriter(str(path))
            assert all(isinstance(b"%05d" % key in writer, bool) for key in range(0, 300, 9))
            writer.write((b"%05d" % key, bytes(900)) for key in range(0, 300, 7))
            writer.close()
        except CaffeError as error:
            check_sentence(error)
            return 1
        return 0

    return run


def leveldb_trial(folder: Path) -> Trial:
    sources = sorted(RECORDED.glob("*_leveldb*"))
    assert sources

    def run(seed: int) -> int:
        chance = random.Random(f"leveldb:{seed}")
        path = folder / "leveldb"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(chance.choice(sources), path, copy_function=shutil.copyfile)
        files = sorted(file for file in path.iterdir() if file.stat().st_size)
        victim = chance.choice(files)
        data = damaged_bytes(victim.read_bytes(), chance, 64)
        # Half of the time the damage is near the end, where tables have their index.
        if chance.random() < 0.5:
            data = damaged_bytes(victim.read_bytes()[::-1], chance, 300)[::-1]
        victim.write_bytes(data)
        cut = chance.randrange(len(data) + 1) if chance.random() < 0.1 else None
        return read_database(path, chance, cut, victim)

    return run


def image_trial(folder: Path) -> Trial:
    files = [*images().values()]
    path = folder / "image"

    def run(seed: int) -> int:
        chance = random.Random(f"image:{seed}")
        path.write_bytes(damaged_bytes(chance.choice(files), chance, 64))
        refused = 0
        for colour in ("unchanged", "color"):
            try:
                data = read_image_file(os.fsencode(path))
                pixels = decode_image(data, colour)
                refused += pixels is None
            except CaffeError as error:
                check_sentence(error)
                refused += 1
        if not refused:
            image_shape(path.read_bytes())
        return refused

    return run


def datum_trial(folder: Path) -> Trial:
    encoded = [encoded_datum(data) for data in images().values()]
    files = [datum(np.zeros((3, 5, 4), np.uint8), 3), *encoded]
    floats = schema.new("Datum")
    floats.channels, floats.height, floats.width = 2, 3, 4
    floats.float_data.extend(range(24))
    files.append(floats.SerializeToString())

    def run(seed: int) -> int:
        chance = random.Random(f"datum:{seed}")
        try:
            message = parse_datum(damaged_bytes(chance.choice(files), chance, 40))
            decode_datum(message, force_color=chance.random() < 0.5)
        except CaffeError as error:
            check_sentence(error)
            return 1
        return 0

    return run


LINES = (b"a.png 1", b"b c.jpg 22", b"", b"x", b"/dev/zero 3", b"../y\t4", b"z.png -" + b"9" * 30)
WINDOWS = b"# 0\na.png\n3 20 31\n2\n3 0.9 2 4 13 15\n1 0.1 10 8 29 19\n"


def list_trial(folder: Path) -> Trial:
    path = folder / "list.txt"

    def run(seed: int) -> int:
        chance = random.Random(f"list:{seed}")
        windows = chance.random() < 0.5
        lines = b"\n".join(chance.choices(LINES, k=chance.randint(0, 9)))
        path.write_bytes(damaged_bytes(WINDOWS * 3 if windows else lines, chance, 1 << 20))
        try:
            if not windows:
                read_list(str(path))
                return 0
            for window in read_windows(str(path)):
                box = window.box
                place_window(box, (20, 31), 9, chance.choice((0, 2)), chance.random() < 0.5, False)
        except CaffeError as error:
            check_sentence(error)
            return 1
        return 0

    return run


TRIALS: dict[str, Callable[[Path], Trial]] = {
    "lmdb": lmdb_trial,
    "lmdb-writer": lmdb_writer_trial,
    "leveldb": leveldb_trial,
    "leveldb-writer": leveldb_writer_trial,
    "image": image_trial,
    "datum": datum_trial,
    "list": list_trial,
}


def address_space() -> int:
    """The bytes of address space that this process has; 0 where there is no /proc."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=TRIALS)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--status", help="file that holds the seed being tried")
    arguments = parser.parse_args()
    # A list of odd labels is told of in the log, which is not what is tried here.
    logging.disable()
    most = address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
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
