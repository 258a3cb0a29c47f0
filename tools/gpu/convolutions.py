"""What cuDNN's choices cost: each convolution of VGG-D with algorithms by timing and repeatable."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator

import torch

from caffecompat.net.kernels.memory_format import stored_channels
from tools.bench.train import COLUMNS, timed
from tools.gpu.rows import Row, Work, run_stage

# (benchmark, deterministic); the first is what trainings use.
CHOICES = ((False, True), (False, False), (True, True), (True, False))
NAMES = ("heuristic, repeatable", "heuristic", "by timing, repeatable", "by timing")
PASSES = ("forward", "input gradient", "weight gradient")
Run = Callable[[int], None]


def choices(work: Work) -> Iterator[Row]:
    """Times of each convolution in each pass and choice, and their sums over the net."""
    totals = {name: dict.fromkeys(PASSES, 0.0) for name in (*NAMES, "with ReLU in one")}
    for inputs, outputs, side, count in _convolutions(work):
        runs = _runs(work, inputs, outputs, side)
        parts = []
        for what, run in runs.items():
            times = [_milliseconds(work, run, *choice) for choice in CHOICES]
            parts.append(f"{what} " + " / ".join(f"{time:.2f}" for time in times))
            for name, time in zip(NAMES, times, strict=True):
                totals[name][what] += count * time
        fused = _fused(work, inputs, outputs, side)
        if fused is not None:
            time = _milliseconds(work, fused, False, True)
            parts.append(f"forward with bias and ReLU {time:.2f}")
            totals["with ReLU in one"]["forward"] += count * time
        yield Row(f"{inputs} to {outputs} channels, {side}x{side}", "; ".join(parts) + " ms")
        yield from _stored(work, inputs, outputs, side)
    for name, by_pass in totals.items():
        used = {what: time for what, time in by_pass.items() if time}
        if used:
            text = ", ".join(f"{what} {time:.2f}" for what, time in used.items())
            figures = {what.replace(" ", "_"): time for what, time in used.items()}
            yield Row(f"all convolutions, {name}", f"{text} ms", figures=figures)


def _stored(work: Work, inputs: int, outputs: int, side: int) -> Iterator[Row]:
    """The first convolution with the channels that batches of bytes are stored with."""
    stored = stored_channels(inputs)
    if stored == inputs:
        return
    times = []
    for channels in (inputs, stored):
        runs = _runs(work, channels, outputs, side)
        # Images get no gradient.
        del runs["input gradient"]
        times.append(sum(_milliseconds(work, run, False, True) for run in runs.values()))
    text = f"{times[1]:.2f} ms, {times[0]:.2f} ms without (forward and weight gradient)"
    figures = {"stored": times[1], "own": times[0]}
    yield Row(f"{inputs} channels stored with {stored}, {side}x{side}", text, figures=figures)


def _convolutions(work: Work) -> list[tuple[int, int, int, int]]:
    """Channels in and out, height and width, and how often the net has it."""
    if work.small or not work.on_gpu:
        return [(3, 8, 8, 1)]
    found: dict[tuple[int, int, int], int] = {}
    channels, side = 3, 224
    for outputs in COLUMNS["D"]:
        if outputs == 0:
            side //= 2
            continue
        found[(channels, outputs, side)] = found.get((channels, outputs, side), 0) + 1
        channels = outputs
    return [(*shape, count) for shape, count in found.items()]


def _tensors(work: Work, inputs: int, outputs: int, side: int) -> list[torch.Tensor]:
    batch = 128 if work.on_gpu and not work.small else 1
    shapes = ((batch, inputs, side, side), (outputs, inputs, 3, 3), (batch, outputs, side, side))
    form = torch.channels_last
    return [
        torch.randn(shape, device=work.device, dtype=torch.bfloat16).contiguous(memory_format=form)
        for shape in shapes
    ]


def _runs(work: Work, inputs: int, outputs: int, side: int) -> dict[str, Run]:
    x, weight, gradient = _tensors(work, inputs, outputs, side)

    def forward(times: int) -> None:
        for _ in range(times):
            torch.conv2d(x, weight, padding=1)

    def backward(mask: tuple[bool, bool, bool]) -> Run:
        def run(times: int) -> None:
            for _ in range(times):
                torch.ops.aten.convolution_backward(
                    *(gradient, x, weight, None, (1, 1), (1, 1), (1, 1)),
                    *(False, (0, 0), 1, mask),
                )

        return run

    masks = ((True, False, False), (False, True, False))
    return dict(zip(PASSES, (forward, *map(backward, masks)), strict=True))


def _fused(work: Work, inputs: int, outputs: int, side: int) -> Run | None:
    if not work.on_gpu:
        return None
    x, weight, _ = _tensors(work, inputs, outputs, side)
    bias = torch.randn(outputs, device=work.device, dtype=x.dtype)

    def run(times: int) -> None:
        for _ in range(times):
            torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)

    return run


def _milliseconds(work: Work, run: Run, benchmark: bool, deterministic: bool) -> float:
    cudnn, device = torch.backends.cudnn, torch.device(work.device)
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = benchmark, deterministic
    try:
        timed(run, 3 if work.on_gpu else 1, device)
        return 1e3 * statistics.median(timed(run, 5, device) for _ in range(3))
    finally:
        cudnn.benchmark, cudnn.deterministic = before


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"choices": choices}))
