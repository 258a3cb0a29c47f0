"""Ranks make the updates of one process: one by NCCL, two on one GPU by gloo or on two by NCCL."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from caffecompat.solver import Solver, join_ranks
from caffecompat.solver.distributed.launch import launch
from caffecompat.solver.distributed.process_group import ProcessGroup, local_rank
from tests.solver.small import write_training
from tools.gpu.one_stage import Row, Work, run_stage

BOUND = 1e-4
STEPS = 6


def _train(run: dict[str, Any], group: ProcessGroup, device: str) -> None:
    solver = Solver(run["solver"], device=device, process_group=group)
    solver.step(STEPS)
    if group.first:
        found = [entry.tensor.detach().cpu().numpy() for entry in solver.net.learnable]
        np.savez(run["out"], *found)
    solver.close()


class Alone(ProcessGroup):
    """One process that sums its gradients as several do: NCCL takes no two on one GPU."""

    @property
    def several(self) -> bool:
        return True


def be_alone(run: dict[str, Any]) -> int:
    """The only rank, in a process that :func:`launch` has started."""
    on_gpu = run["device"] == "cuda"
    backends = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backends, store=dist.HashStore(), rank=0, world_size=1)
    _train(run, Alone(), run["device"])
    dist.destroy_process_group()
    return 0


def be_rank(run: dict[str, Any]) -> int:
    """One of the ranks, in a process that :func:`launch` has started."""
    device = run["device"]
    if device == "cuda":
        device = f"cuda:{local_rank() if run['backend'] == 'nccl' else 0}"
    with join_ranks(device, limit=30, backend=run["backend"]) as group:
        _train(run, group, device)
    return 0


def _as_one_process(
    what: str, work: Work, backend: str, rank: Callable[[dict[str, Any]], int], count: int
) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        # Statistics of BatchNorm are those of each rank's part of the batch.
        path = write_training(Path(folder) / "run")
        net = path.with_name("net.prototxt")
        lines = net.read_text().splitlines()
        text = "\n".join(line for line in lines if '"BatchNorm"' not in line)
        net.write_text(text.replace('"norm"', '"conv"'))
        run = {"solver": str(path), "device": work.device, "backend": backend}
        one, other = f"{folder}/one.npz", f"{folder}/other.npz"
        _train({**run, "out": one}, ProcessGroup(), work.device)
        code = launch(rank, {**run, "out": other}, count, 75)
        if code:
            return Row(what, f"the ranks ended with {code}", False)
        with np.load(one) as first, np.load(other) as second:
            worst = max(
                float(np.abs(first[key] - second[key]).max() / max(1e-6, np.abs(first[key]).max()))
                for key in first.files
            )
    return Row(what, f"largest difference {worst:.1e} (bound {BOUND:g})", worst <= BOUND)


def alone(work: Work) -> Iterator[Row]:
    backend = "nccl" if work.on_gpu else "gloo"
    what = f"one rank by {backend}, summing as several do, = one process"
    yield _as_one_process(what, work, backend, be_alone, 1)


def by_gloo(work: Work) -> Iterator[Row]:
    yield _as_one_process("two ranks by gloo = one process", work, "gloo", be_rank, 2)


def by_nccl(work: Work) -> Iterator[Row]:
    if torch.cuda.device_count() < 2:
        yield Row("two ranks by nccl", "needs two GPUs")
        return
    yield _as_one_process("two ranks by nccl = one process", work, "nccl", be_rank, 2)


if __name__ == "__main__":
    # The ranks import this module by its name.
    from tools.gpu import ranks

    checks = {"alone": ranks.alone, "gloo": ranks.by_gloo, "nccl": ranks.by_nccl}
    sys.exit(run_stage(__doc__, checks))
