"""What cuDNN's choices cost: each convolution of VGG-D with algorithms by timing and repeatable.

Three rows at the end say what follows, by the rules in docs/benchmarks.md: whether plans should be
chosen by timing, whether the ReLU belongs into the convolution, and whether channels of images
should be padded.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from caffecompat.net.kernels.memory_format import stored_channels
from tools.bench.plain_vgg import COLUMNS
from tools.bench.train import timed
from tools.gpu.one_stage import Row, Work, run_stage

# (benchmark, deterministic); the first is what trainings use.
CHOICES = ((False, True), (False, False), (True, True), (True, False))
NAMES = ("heuristic, repeatable", "heuristic", "by timing, repeatable", "by timing")
PASSES = ("forward", "input gradient", "weight gradient")
TOGETHER, APART = "bias and ReLU in one", "bias and ReLU after it"
# A gain below this is not worth another way of doing things.
WORTH = 0.05
# Kernel, stride, pad, outputs and side of the first convolutions of other nets.
FIRST = ((7, 2, 3, 64, 224), (11, 4, 0, 96, 227))
Run = Callable[[int], None]


@dataclass(frozen=True)
class Shape:
    """A convolution of square images: channels in and out, height and width, and its kernel."""

    inputs: int
    outputs: int
    side: int
    kernel: int = 3
    stride: int = 1
    pad: int = 1


def choices(work: Work) -> Iterator[Row]:
    """Times of each convolution in each pass and choice, and their sums over the net."""
    totals = {name: dict.fromkeys(PASSES, 0.0) for name in (*NAMES, TOGETHER, APART)}
    for inputs, outputs, side, count in _convolutions(work):
        runs = _runs(work, Shape(inputs, outputs, side))
        parts = []
        for what, run in runs.items():
            times = [_milliseconds(work, run, *choice) for choice in CHOICES]
            parts.append(f"{what} " + " / ".join(f"{time:.2f}" for time in times))
            for name, time in zip(NAMES, times, strict=True):
                totals[name][what] += count * time
        for name, time in _rectified(work, Shape(inputs, outputs, side)).items():
            parts.append(f"forward with {name} {time:.2f}")
            totals[name]["forward"] += count * time
        yield Row(f"{inputs} to {outputs} channels, {side}x{side}", "; ".join(parts) + " ms")
    for name, by_pass in totals.items():
        used = {what: time for what, time in by_pass.items() if time}
        if used:
            text = ", ".join(f"{what} {time:.2f}" for what, time in used.items())
            figures = {what.replace(" ", "_"): time for what, time in used.items()}
            yield Row(f"all convolutions, {name}", f"{text} ms", figures=figures)
    if work.on_gpu:
        yield from _advice(totals)


def first_layers(work: Work) -> Iterator[Row]:
    """Convolutions of images, with large kernels too: channels padded, and the ReLU in one."""
    shapes = [Shape(inputs, outputs, side) for inputs, outputs, side, _ in _convolutions(work)[:1]]
    if work.on_gpu and not work.small:
        shapes += [Shape(3, o, side, kernel, stride, pad) for kernel, stride, pad, o, side in FIRST]
    for shape in shapes:
        yield from _stored(work, shape)
        times = _rectified(work, replace(shape, inputs=stored_channels(shape.inputs)))
        if times:
            gain = times[APART] / times[TOGETHER] - 1
            text = f"{gain:+.1%} ({times[TOGETHER]:.2f} and {times[APART]:.2f} ms)"
            what = f"{shape.kernel}x{shape.kernel}/{shape.stride}: gain of {TOGETHER}"
            advice = "" if gain > -WORTH else ": it must stay apart"
            yield Row(what, text + advice, figures={"gain": gain})


def _advice(totals: Mapping[str, Mapping[str, float]]) -> Iterator[Row]:
    """What the best repeatable plans and the ReLU in one operation gain, and what follows."""
    now, best = (sum(totals[name].values()) for name in (NAMES[0], NAMES[2]))
    gain = now / best - 1
    text = f"{gain:+.1%}: "
    text += "choose plans once and store them" if gain > WORTH else "keep cuDNN's own choice"
    yield Row("gain of repeatable plans by timing", text, figures={"gain": gain})
    together, apart = totals[TOGETHER]["forward"], totals[APART]["forward"]
    if together:
        gain = apart / together - 1
        text = f"{gain:+.1%}: {'keep it' if gain > 0 else 'leave it out'}"
        yield Row(f"gain of {TOGETHER}, forward", text, figures={"gain": gain})


def _stored(work: Work, shape: Shape) -> Iterator[Row]:
    """A first convolution with the channels that batches of bytes are stored with."""
    stored = stored_channels(shape.inputs)
    times = []
    for channels in (shape.inputs, stored):
        runs = _runs(work, replace(shape, inputs=channels))
        # Images get no gradient.
        del runs["input gradient"]
        times.append(sum(_milliseconds(work, run, False, True) for run in runs.values()))
    gain = times[0] / times[1] - 1
    text = f"{gain:+.1%} ({times[1]:.2f} and {times[0]:.2f} ms)"
    text += ": leave it out" if work.on_gpu and gain < 0 else ""
    what = f"{shape.kernel}x{shape.kernel}/{shape.stride}: gain of {shape.inputs} channels "
    yield Row(what + f"stored with {stored}", text, figures={"gain": gain})


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


def _tensors(work: Work, shape: Shape) -> list[torch.Tensor]:
    """Bottom, weight, and the gradient of the top."""
    batch = 128 if work.on_gpu and not work.small else 1
    kernel, side = shape.kernel, shape.side
    top = (side + 2 * shape.pad - kernel) // shape.stride + 1
    shapes = (
        (batch, shape.inputs, side, side),
        (shape.outputs, shape.inputs, kernel, kernel),
        (batch, shape.outputs, top, top),
    )
    form = torch.channels_last
    return [
        torch.randn(one, device=work.device, dtype=torch.bfloat16).contiguous(memory_format=form)
        for one in shapes
    ]


def _runs(work: Work, shape: Shape) -> dict[str, Run]:
    x, weight, gradient = _tensors(work, shape)
    stride, pad = (shape.stride, shape.stride), (shape.pad, shape.pad)

    def forward(times: int) -> None:
        for _ in range(times):
            torch.conv2d(x, weight, None, stride, pad)

    def backward(mask: tuple[bool, bool, bool]) -> Run:
        def run(times: int) -> None:
            for _ in range(times):
                torch.ops.aten.convolution_backward(
                    *(gradient, x, weight, None, stride, pad, (1, 1)),
                    *(False, (0, 0), 1, mask),
                )

        return run

    masks = ((True, False, False), (False, True, False))
    return dict(zip(PASSES, (forward, *map(backward, masks)), strict=True))


def _rectified(work: Work, shape: Shape) -> dict[str, float]:
    """Milliseconds of a forward pass with bias and ReLU, in both ways; nothing on the CPU."""
    if not work.on_gpu:
        return {}
    x, weight, _ = _tensors(work, shape)
    bias = torch.randn(shape.outputs, device=work.device, dtype=x.dtype)
    settings = ((shape.stride, shape.stride), (shape.pad, shape.pad), (1, 1), 1)

    def together(times: int) -> None:
        for _ in range(times):
            torch.cudnn_convolution_relu(x, weight, bias, *settings)

    def apart(times: int) -> None:
        for _ in range(times):
            torch.conv2d(x, weight, bias, *settings).relu_()

    ways = ((TOGETHER, together), (APART, apart))
    try:
        return {name: _milliseconds(work, run, False, True) for name, run in ways}
    except RuntimeError:
        # cuDNN does not have the operation for every shape.
        return {}


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
    sys.exit(run_stage(__doc__, {"choices": choices, "first layers": first_layers}))
