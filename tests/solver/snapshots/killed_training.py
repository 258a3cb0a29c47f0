"""Trains a solver that writes a snapshot after every iteration, and kills it again and again.

    python killed_training.py SOLVER KILLS SEED [any]

Each life goes on from the newest intact snapshot that the one before left. With "any"
the lives are killed at any moment, and after that many kills the last one trains to the end.
Without it each life is killed soon after its first snapshot. The lives are forks of this
process, which has loaded everything but never computed, so that a life starts at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from caffecompat.net import Net
from caffecompat.solver import Solver


def newest_state(folder: Path) -> Path | None:
    states = folder.glob("snap_iter_*.solverstate")
    return max(states, key=lambda path: int(path.stem.split("_")[-1]), default=None)


def live(path: Path) -> None:
    torch.set_num_threads(1)
    solver = Solver(path, snapshot="auto")
    solver.solve()


def live_and_die(path: Path, kills: int, moments: random.Random) -> None:
    """Kills lives at any moment, then lets one train to the end."""
    for kill in range(kills + 1):
        child = os.fork()
        if child == 0:
            live(path)
            os._exit(0)
        if kill < kills:
            time.sleep(moments.uniform(0, 0.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))


def main() -> None:
    path, kills, moments = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    # Imports the modules of the layers.
    Net(path.with_name("net.prototxt"), phase="train", shapes_only=True)
    if len(sys.argv) > 4:
        live_and_die(path, kills, moments)
    for _ in range(kills):
        start = newest_state(path.parent)
        child = os.fork()
        if child == 0:
            live(path)
            os._exit(1)
        # A life counts only if it is killed while it writes, so wait for its first snapshot.
        while newest_state(path.parent) == start:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
