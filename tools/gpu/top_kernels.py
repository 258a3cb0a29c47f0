"""Where the time of a training step goes: the kernels that take most of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tools.gpu.one_stage import Row, Work, run_stage
from tools.gpu.switched_parts import solver_of

_MOST = 20
_LONGEST_NAME = 60


def top(work: Work) -> Iterator[Row]:
    """The kernels of some steps, launched one by one; on the CPU torch's operators."""
    steps = 5 if work.on_gpu else 1
    solver = solver_of(work, cuda_graph=False)
    solver.step(2)
    kind = ProfilerActivity.CUDA if work.on_gpu else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        solver.step(steps)
        if work.on_gpu:
            torch.cuda.synchronize()
    events = [
        (event.key, _microseconds(event, work), event.count)
        for event in profiler.key_averages()
        # The calls of CUDA on the host count the time of what they launch, too.
        if not work.on_gpu or event.device_type == DeviceType.CUDA
    ]
    if not events:
        yield Row("all kernels", "the profiler has seen none; has this user no permission?")
        return
    whole = sum(time for _, time, _ in events) or 1.0
    yield Row("all kernels", f"{whole / steps / 1e3:.2f} ms for each step")
    for name, time, count in sorted(events, key=lambda event: -event[1])[:_MOST]:
        text = f"{time / steps / 1e3:.3f} ms, {time / whole:.1%}, {count / steps:.0f} calls"
        figures = {"milliseconds": time / steps / 1e3, "share": time / whole}
        yield Row(name[:_LONGEST_NAME], text, figures=figures)


def _microseconds(event: Any, work: Work) -> float:
    return float(event.self_device_time_total if work.on_gpu else event.self_cpu_time_total)


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"top": top}))
