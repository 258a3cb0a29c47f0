"""Which kernels can be trusted on a device: each is tried beside torch's operators.

A kernel that does not compile there, or gives something else, is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from caffecompat.errors import first_line
from caffecompat.layers._counter_rng import Noise
from caffecompat.net.kernels import dropout, input_normalisation, pooling, rectified, update
from caffecompat.net.kernels.choice import NOT_INSTALLED, TORCH_OPERATORS, Kernels, has_triton
from caffecompat.net.kernels.launching import KernelFailed


@dataclass(frozen=True)
class WorkingKernels:
    """What the trial has found.

    Attributes:
        kernels: those that can be used.
        problems: a clause for each of the others.
    """

    kernels: Kernels
    problems: tuple[str, ...] = ()


@cache
def working_kernels(device: torch.device) -> WorkingKernels:
    """The kernels that work on ``device``; none on a CPU. They are tried once for each process."""
    if device.type != "cuda":
        return WorkingKernels(TORCH_OPERATORS)
    if not has_triton():
        return WorkingKernels(TORCH_OPERATORS, (NOT_INSTALLED,))
    return tried_kernels(device)


def tried_kernels(device: torch.device) -> WorkingKernels:
    """Tries every kernel on ``device``."""
    kernels, problems = Kernels.every(), []
    for name, trial in _TRIALS.items():
        problem = _problem(trial, device)
        if problem:
            kernels = kernels.without(name)
            problems.append(f"{name}: {problem}")
    return WorkingKernels(kernels, tuple(problems))


def _problem(trial: Callable[[torch.device], bool], device: torch.device) -> str:
    try:
        right = trial(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except KernelFailed as error:
        return error.problem
    except Exception as error:  # a compiler, a linker and a driver have errors of many types
        return f"{type(error).__name__}: {first_line(error)}"
    return "" if right else "its results are not those of torch's operators"


def _random(device: torch.device, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    made = torch.randn(tuple(shape), generator=generator).to(device, dtype)
    return made.contiguous(memory_format=torch.channels_last)


def _with_specials(x: Tensor) -> Tensor:
    """``x`` (4 axes) with some NaN and infinite values, which a training that diverges has."""
    x = x.clone(memory_format=torch.preserve_format)
    for value, place in ((math.nan, 0), (math.inf, 1), (-math.inf, 2)):
        x[0, place, 1, place] = x[1, place, 2, 1] = value
    return x


def _same(found: Tensor, expected: Tensor, rtol: float = 0.0, atol: float = 0.0) -> bool:
    return torch.allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True)


def _try_dropout(device: torch.device) -> bool:
    noise = Noise(1, "trial", torch.tensor(5, device=device))
    drop = dropout.DropoutSettings(noise, 0.6, 1 / 0.6, kernel=True)
    x = _with_specials(_random(device, (2, 8, 5, 7), torch.float16))
    return _same(dropout.dropout(x, drop), dropout.dropped(x, noise.position, drop))


def _try_pooling(device: torch.device) -> bool:
    windows = pooling.PoolingWindows((3, 3), (2, 2), (1, 1), ceil=True)
    by_kernel = replace(windows, kernel_computes=True)
    x = _with_specials((2 * _random(device, (2, 8, 7, 6), torch.float16)).round())
    y, index = pooling.maxima(x, by_kernel)
    expected, positions = pooling.maxima_by_torch(x, windows)
    # Whole numbers, whose sums are exact.
    spread = pooling.spread(y, index, x.shape[2:], by_kernel)
    wanted = pooling.spread_by_torch(y, index, x.shape[2:], windows)
    # Which of several NaN a window takes is of no account.
    places = ~expected.isnan()
    same = torch.equal(index[places], positions[places])
    return _same(y, expected) and same and _same(spread, wanted)


def _try_rectified(device: torch.device) -> bool:
    return all(_try_rectified_values(device, specials) for specials in (False, True))


def _try_rectified_values(device: torch.device, specials: bool) -> bool:
    y = _random(device, (2, 24, 7, 5), torch.float16)
    y = (_with_specials(y) if specials else y).relu()
    top, index = pooling.maxima_by_torch(y, rectified.HALVING, none_if_zero=True)
    right = True
    for kernel_way, torch_way in (
        (rectified.rectified_gradient(y, y, True), rectified.rectified_by_torch(y, y)),
        (
            rectified.unpooled_gradient(top, index, y.shape[2:], True),
            rectified.unpooled_gradient(top, index, y.shape[2:], False),
        ),
    ):
        (found, sums), (expected, wanted) = kernel_way, torch_way
        right &= _same(found, expected) and _same(sums, wanted, rtol=1e-4, atol=1e-6)
    return right


def _try_normalisation(device: torch.device) -> bool:
    pixels = _random(device, (2, 3, 5, 7), torch.float32).abs().mul(40).to(torch.uint8)
    mean = torch.full((3, 1, 1), 104.0, device=device)
    crops = input_normalisation.Crops(pixels, mean, None, 0.017)
    right = True
    for form in (
        input_normalisation.BlobForm(torch.float32, channels_last=True),
        input_normalisation.BlobForm(torch.bfloat16, channels_last=True, stored=8),
    ):
        expected = input_normalisation.normalised_by_torch(crops, form)
        right &= torch.equal(input_normalisation.normalised(crops, form, kernel=True), expected)
    return right


def _try_update(device: torch.device) -> bool:
    skip = torch.zeros((), device=device)
    given = update.Momentum(torch.tensor(0.1, device=device), skip, 0.9, 5e-4)
    gradient = _with_specials(_random(device, (9, 8, 3, 3), torch.float32))
    pairs = []
    for kernel in (True, False):
        pair = [_random(device, (9, 8, 3, 3), torch.float32) for _ in range(2)]
        copy = pair[0].bfloat16()
        for flag in (0.0, 1.0):
            skip.fill_(flag)
            how = replace(given, kernel=kernel)
            update.sgd_update(pair[:1], [gradient], pair[1:], how, [copy])
        pairs.append(pair)
        if not _same(copy.float(), pair[0].bfloat16().float()):
            return False
    return all(_same(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*pairs, strict=True))


_TRIALS: dict[str, Callable[[torch.device], bool]] = {
    "dropout": _try_dropout,
    "pooling": _try_pooling,
    "rectified": _try_rectified,
    "normalisation": _try_normalisation,
    "update": _try_update,
}
