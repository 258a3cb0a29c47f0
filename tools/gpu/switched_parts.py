"""Our training step with the fused layers, the kernels and the CUDA graph off and on."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from caffecompat.solver import Solver
from tools.bench import train
from tools.gpu.one_stage import Row, Work, run_stage
from tools.gpu.trainings import small_solver

# From everything off to everything on, one more in each row; then the graph alone.
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("layer by layer", {"fused": False, "kernels": False, "cuda_graph": False}),
    ("fused, torch's operators", {"kernels": False, "cuda_graph": False}),
    ("fused, kernels", {"cuda_graph": False}),
    ("fused, kernels, graph", {"cuda_graph": True}),
    ("torch's operators, graph", {"fused": False, "kernels": False, "cuda_graph": True}),
)


@dataclass(frozen=True)
class Measured:
    """A training to measure: its name, and images in a batch."""

    name: str
    batch: int


def measured(work: Work) -> Measured:
    large = work.on_gpu and not work.small
    return Measured("D, batch 128", 128) if large else Measured("a small net", 8)


def solver_of(work: Work, **options: Any) -> Solver:
    """VGG-D on images in memory, or for a trial on the CPU a small net; in bf16."""
    if not work.on_gpu or work.small:
        return small_solver(work, tempfile.gettempdir(), precision="bf16", **options)
    arguments = argparse.Namespace(net="D", device=work.device, precision="bf16")
    arguments.blobs_first = arguments.compile = False
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(128, 3, 224, 224, generator=generator) * 60
    labels = torch.randint(train.CLASSES, (128,), generator=generator)
    return train.memory_solver(arguments, images, labels, **options)


def side_by_side(work: Work) -> Iterator[Row]:
    """All ways in one process, in turns, from equal weights on the same images."""
    rounds, steps = (3, 10) if work.on_gpu and not work.small else (1, 1)
    solvers = {
        name: solver_of(work, **options)
        for name, options in WAYS
        if work.on_gpu or not options["cuda_graph"]
    }
    first = next(iter(solvers.values()))
    for solver in solvers.values():
        solver.net.load_weights(first.net.to_weights())
    found: dict[str, list[float]] = {name: [] for name in solvers}
    for turn in range(rounds + 1):
        for name, solver in solvers.items():
            seconds = train.timed(solver.step, steps, torch.device(work.device))
            if turn:
                found[name].append(seconds)
    slowest, net = statistics.median(next(iter(found.values()))), measured(work)
    for name, times in found.items():
        step = statistics.median(times)
        text = f"{slowest / step:.3f} × ({step * 1e3:.1f} ms, {net.batch / step:.0f} images/s)"
        figures = {"step": step, "ratio": slowest / step, "images_per_second": net.batch / step}
        yield Row(f"{net.name}, bf16, {name}", text, figures=figures)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"side by side": side_by_side}))
