"""Compiles what the package launches, as it launches it, for GPUs that are not there.

A program of its own, as :mod:`tests.net.kernels.compile_all`, which names the types of arguments
itself. Here the package's own functions call the kernels with tensors on the CPU; Triton finds
types and alignments of the arguments as on a GPU, compiles, and launches nothing. It prints one
line for each compute capability: how many variants it has compiled, then each kernel's name.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from caffecompat.layers._counter_rng import Noise
from caffecompat.net.kernels import dropout, input_normalisation, pooling, rectified, update
from caffecompat.net.kernels.self_check import tried_kernels

# A100, H100, B200.
CAPABILITIES = (80, 90, 100)
HALF, LAST = torch.bfloat16, torch.channels_last


class NoGPU:
    """The driver of a GPU of which only the kind is known."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch

    def get_current_stream(self, device: int) -> int:
        return 0


def blob(*shape: int, dtype: torch.dtype = HALF) -> torch.Tensor:
    made = torch.zeros(shape, dtype=dtype)
    return made.contiguous(memory_format=LAST) if made.dim() == 4 else made


def launch_all() -> None:
    """Launches with shapes and types of trainings; the results are undefined."""
    noise = Noise(1, "drop", torch.tensor(3))
    for dtype in (HALF, torch.float16, torch.float32):
        settings = dropout.DropoutSettings(noise, 0.5, 2.0, kernel=True)
        for x in (
            blob(2, 64, dtype=dtype),
            blob(1, 4096, dtype=dtype),
            blob(2, 3, 4, 6, dtype=dtype),
        ):
            dropout.dropout(x, settings)
        # Batches of 1, planes of 1x1 and one channel are numbers for which Triton makes a variant.
        for shape in ((2, 64, 14, 14), (1, 7, 9, 5), (1, 1, 4, 4)):
            pool(blob(*shape, dtype=dtype))
            pool(blob(*shape, dtype=dtype).contiguous())
            halve(blob(*shape, dtype=dtype))
    normalise()
    step()


def pool(x: torch.Tensor) -> None:
    for kernel, stride, pad in ((2, 2, 0), (3, 2, 0), (3, 1, 1)):
        windows = pooling.PoolingWindows(
            *((kernel,) * 2, (stride,) * 2, (pad,) * 2), ceil=True, kernel_computes=True
        )
        y, index = pooling.maxima(x, windows)
        pooling.spread(y, index, x.shape[2:], windows)


def halve(y: torch.Tensor) -> None:
    rectified.rectified_gradient(y, y, kernel=True)
    windows = rectified.HALVING
    top, index = pooling.maxima_by_torch(y, windows, none_if_zero=True)
    rectified.unpooled_gradient(top, index, y.shape[2:], kernel=True)


def normalise() -> None:
    pixels = torch.zeros((2, 3, 32, 20), dtype=torch.uint8)
    means = (None, torch.zeros(3, 1, 1), torch.zeros(3, 32, 20))
    shifts = (None, torch.zeros(2, 3, 1, 1))
    forms = [
        input_normalisation.BlobForm(dtype, last, stored)
        for dtype, last, stored in ((HALF, True, 8), (HALF, True, 0), (torch.float32, False, 0))
    ]
    for mean, shift, form, scale in itertools.product(means, shifts, forms, (1.0, 0.017)):
        for given in (pixels, pixels.contiguous(memory_format=LAST)):
            crops = input_normalisation.Crops(given, mean, shift, scale)
            input_normalisation.normalised(crops, form, kernel=True)


def step() -> None:
    rate = torch.tensor(0.01)
    for skip, dtype in itertools.product((None, torch.zeros(()), torch.zeros(1)), (HALF, None)):
        given = update.Momentum(rate, skip, 0.9, 5e-4, kernel=True)
        for shape in ((64, 3, 3, 3), (1000,), (1,), (7, 5)):
            w, h = (blob(*shape, dtype=torch.float32) for _ in range(2))
            gradient = blob(*shape, dtype=dtype or torch.float32)
            copies = [None if dtype is None else w.to(dtype)]
            update.sgd_update([w], [gradient], [h], given, copies)


def main(capabilities: Iterable[int] = CAPABILITIES) -> None:
    made: list[str] = []
    compile_and_launch = JITFunction.run

    def compiled(self: Any, *args: Any, grid: Any, warmup: bool, **more: Any) -> Any:
        before = sum(len(caches[0]) for caches in self.device_caches.values())
        kernel = compile_and_launch(self, *args, grid=grid, warmup=True, **more)
        if sum(len(caches[0]) for caches in self.device_caches.values()) > before:
            assert len(kernel.asm["cubin"]) > 0
            made.append(self.fn.__name__)
        return kernel

    JITFunction.run = compiled
    for capability in capabilities:
        made.clear()
        driver.set_active(NoGPU(capability))
        wrong = "its results are not those of torch's operators"
        problems = tried_kernels(torch.device("cpu")).problems
        launch_all()
        others = [problem for problem in problems if not problem.endswith(wrong)]
        assert not others, others
        sys.stdout.write(f"{capability} {len(made)} {' '.join(sorted(set(made)))}\n")


if __name__ == "__main__":
    main([int(given) for given in sys.argv[1:]] or CAPABILITIES)
