"""Two ranks, on one GPU by gloo or on two by NCCL, make the updates of one process."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffecompat.solver import Solver, join_ranks
from caffecompat.solver.distributed.launch import launch
from caffecompat.solver.distributed.process_group import ProcessGroup, local_rank
from tests.solver.small import write_training
from tools.gpu.rows import Row, Work, run_stage

BOUND = 1e-4
STEPS = 6


def _train(run: dict[str, Any], group: ProcessGroup, device: str) -> None:
    solver = Solver(run["solver"], device=device, process_group=group)
    solver.step(STEPS)
    if group.first:
        found = [entry.tensor.detach().cpu().numpy() for entry in solver.net.learnable]
        np.savez(run["out"], *found)
    solver.close()


def be_rank(run: dict[str, Any]) -> int:
    """One of the ranks, in a process that :func:`launch` has started."""
    device = run["device"]
    if device == "cuda":
        device = f"cuda:{local_rank() if run['backend'] == 'nccl' else 0}"
    with join_ranks(device, limit=30, backend=run["backend"]) as group:
        _train(run, group, device)
    return 0


def _two_are_one(work: Work, backend: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        # Statistics of BatchNorm are those of each rank's part of the batch.
        path = write_training(Path(folder) / "run")
        net = path.with_name("net.prototxt")
        lines = net.read_text().splitlines()
        text = "\n".join(line for line in lines if '"BatchNorm"' not in line)
        net.write_text(text.replace('"norm"', '"conv"'))
        run = {"solver": str(path), "device": work.device, "backend": backend}
        one, two = f"{folder}/one.npz", f"{folder}/two.npz"
        _train({**run, "out": one}, ProcessGroup(), work.device)
        code = launch(be_rank, {**run, "out": two}, 2, 75)
        what = f"two ranks by {backend} = one process"
        if code:
            return Row(what, f"the ranks ended with {code}", False)
        with np.load(one) as first, np.load(two) as second:
            worst = max(
                float(np.abs(first[key] - second[key]).max() / max(1e-6, np.abs(first[key]).max()))
                for key in first.files
            )
    return Row(what, f"largest difference {worst:.1e} (bound {BOUND:g})", worst <= BOUND)


def by_gloo(work: Work) -> Iterator[Row]:
    yield _two_are_one(work, "gloo")


def by_nccl(work: Work) -> Iterator[Row]:
    if torch.cuda.device_count() < 2:
        yield Row("two ranks by nccl", "needs two GPUs")
        return
    yield _two_are_one(work, "nccl")


if __name__ == "__main__":
    # The ranks import this module by its name.
    from tools.gpu import ranks

    sys.exit(run_stage(__doc__, {"gloo": ranks.by_gloo, "nccl": ranks.by_nccl}))
