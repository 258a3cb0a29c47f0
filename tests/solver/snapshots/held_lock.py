"""A process that holds the lock of a prefix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.places import REPOSITORY

ROOT = REPOSITORY


HOLD = """
import sys
from caffecompat.solver.snapshots.prefix_lock import PrefixLock
with PrefixLock(sys.argv[1], "other").held():
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(prefix: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(prefix)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process
