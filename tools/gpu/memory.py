"""The memory forecast of a training beside what the allocator of a GPU has needed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import torch

from caffecompat.net import Net
from caffecompat.proto import schema
from caffecompat.solver import Solver
from caffecompat.solver.estimate.memory import footprint
from caffecompat.solver.setup.compute import ComputeOptions
from tools.bench.train import definition
from tools.gpu.one_stage import Row, Work, run_stage

# What the tests allow: workspaces of cuDNN and cuBLAS are no part of the forecast.
BOUND = 0.15
# Fused layers with their kernels, CUDA graph. The forecast is that of layers one by one.
WAYS = ((False, False), (True, False), (True, True))


def forecasts(work: Work) -> Iterator[Row]:
    sizes = ((2, 32),) if work.small or not work.on_gpu else ((64, 224), (128, 224))
    for batch, size in sizes:
        for precision in ("fp32", "bf16"):
            for fused, graph in WAYS if work.on_gpu else WAYS[:1]:
                compute = ComputeOptions(precision, cuda_graph=graph, fused=fused, kernels=fused)
                yield _error(work, batch, size, compute)


def _error(work: Work, batch: int, size: int, compute: ComputeOptions) -> Row:
    mode = f"{'fused' if compute.fused else 'layer by layer'}, "
    mode += "graph" if compute.cuda_graph else "eager"
    what = f"net A, batch {batch}, {compute.precision}, {mode}"
    message = _solver_message(batch, size)
    shapes = Net(message.net_param, phase="train", shapes_only=True)
    need = footprint(shapes, history_slots=1, scratch=False, half=compute.half).total
    if not work.on_gpu:
        return Row(what, f"{need / 2**30:.2f} GiB foreseen; the CPU has no such allocator")
    # The solver before this one, which may refer to itself.
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    options: dict[str, Any] = {
        name: getattr(compute, name) for name in ("precision", "cuda_graph", "fused", "kernels")
    }
    solver = Solver(message, device=work.device, **options)
    solver.step(2)
    torch.cuda.reset_peak_memory_stats()
    solver.step(2)
    # A captured graph keeps its memory in a pool of its own, which counts as reserved.
    peak = torch.cuda.memory_reserved() if compute.cuda_graph else torch.cuda.max_memory_allocated()
    found = peak - before
    error = need / found - 1
    text = f"{error:+.1%} of {found / 2**30:.2f} GiB"
    passed = None if compute.cuda_graph or compute.fused else abs(error) <= BOUND
    return Row(what, text, passed, {"error": error, "found": found, "foreseen": need})


def _solver_message(batch: int, size: int) -> Any:
    def sources(net: Any) -> None:
        for name, shape in (("data", (batch, 3, size, size)), ("label", (batch,))):
            layer = net.layer.add(name=name, type="Input", top=[name])
            layer.input_param.shape.add(dim=list(shape))

    message = schema.new("SolverParameter")
    message.net_param.CopyFrom(definition("A", sources))
    message.base_lr, message.lr_policy, message.max_iter = 1e-4, "fixed", 100
    message.momentum, message.random_seed, message.snapshot_after_train = 0.9, 1, False
    return message


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"forecasts": forecasts}))
