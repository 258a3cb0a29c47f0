"""Reads damaged files, one after the other, under a cap on memory and time.

Run by ``test_fuzz.py`` in a process of its own, so that a crash or a hang is seen; or by hand::

    python -m tests.hostile.fuzz caffemodel --seed 0 --count 100000
    python -m tests.hostile.fuzz caffemodel --seed 4711 --count 1 --keep damaged.caffemodel

Every seed is one file. Anything but a CaffeError ends the run with the seed on the last line;
the file ``--status`` always holds the seed that is being tried.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffecompat.errors import CaffeError
from caffecompat.proto.files import read_net, read_solver
from caffecompat.weights import load_weights, read_mean, read_state
from caffecompat.weights.passport import read_passport
from tests.hostile.mutations import damaged, valid_files

MEMORY = 2 << 30
SECONDS_PER_FILE = 20


def read_all(path: Path) -> None:
    """Weights, and every value of them looked at."""
    for layer in load_weights(path).layers:
        for array in [*layer.blobs, *(layer.diffs or ())]:
            array.sum()


def passport(path: Path) -> None:
    read_passport(path, values=True)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


Reader = Callable[[Path], object]
READERS: dict[str, tuple[str, tuple[Reader, ...]]] = {
    "caffemodel": ("x.caffemodel", (read_all, passport)),
    "solverstate": ("x.solverstate", (read_state, passport)),
    "binaryproto": ("x.binaryproto", (read_mean, passport)),
    "npz": ("x.npz", (read_all, passport)),
    "h5": ("x.solverstate.h5", (read_all, read_state, passport)),
    "prototxt": ("x.prototxt", (read_net, read_solver)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=READERS)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--status", help="file that holds the seed being tried")
    parser.add_argument("--keep", help="write the last damaged file here")
    arguments = parser.parse_args()
    np.seterr(all="ignore")  # the sums of damaged numbers may be anything
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = os.open(arguments.status or os.devnull, os.O_WRONLY | os.O_CREAT)
    name, readers = READERS[arguments.kind]
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        files = valid_files(Path(folder))
        path = Path(folder) / name
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            os.pwrite(status, b"%-20d" % seed, 0)
            data = damaged(arguments.kind, files, seed)
            # A mapped file must not be cut while something still looks into it.
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            if arguments.keep:
                Path(arguments.keep).write_bytes(data)
            signal.alarm(SECONDS_PER_FILE)
            for reader in readers:
                try:
                    reader(path)
                except CaffeError as error:
                    refused += 1
                    if not str(error).strip():
                        say(f"an error without a sentence from {reader}; seed {seed}")
                        return 1
                except BaseException:
                    traceback.print_exc(file=sys.stdout)
                    say(f"seed {seed}")
                    return 1
            signal.alarm(0)
    say(f"{arguments.count} files of kind {arguments.kind}, {refused} readings refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
