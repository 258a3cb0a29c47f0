"""Each Triton kernel beside the same in torch operators."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.data.shard import SampleRange
from caffecompat.errors import NetError
from caffecompat.layers._counter_rng import Noise
from caffecompat.net.kernels import dropout, input_normalisation, pooling, rectified, update
from caffecompat.net.kernels.dropout import DropoutSettings
from caffecompat.net.kernels.input_normalisation import BlobForm, Crops
from caffecompat.net.kernels.launching import launching
from caffecompat.net.kernels.memory_format import copy_with_layout, stored_channels, with_stored
from caffecompat.net.kernels.pooling import PoolingWindows
from caffecompat.net.kernels.update import Momentum
from tests.net.kernels.devices import DEVICES, FORMATS, HALVES, random

ROOT = Path(__file__).resolve().parents[3]


def noise_at(position: int, device: str, samples: SampleRange | None = None) -> Noise:
    return Noise(7, "drop", torch.tensor(position, device=device), samples)


@DEVICES
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("shape", [(3, 5, 4, 7), (2, 1500), (3, 1, 4, 4), (5,)])
def test_dropout(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    for form in FORMATS if len(shape) == 4 else FORMATS[:1]:
        drop = DropoutSettings(noise_at(3, device), 0.6, 1 / 0.6, kernel=True)
        x = random(shape, device, dtype, form).requires_grad_()
        y = dropout.dropout(x, drop)
        expected = dropout.dropped(x.detach(), drop.noise.position, drop)
        assert y.stride() == x.stride()
        assert torch.equal(y.detach(), expected)
        # The pass has gone on before the backward pass begins.
        gradient = random(shape, device, dtype, seed=2)
        wanted = dropout.dropped(gradient, drop.noise.position.clone(), drop)
        drop.noise.position.fill_(9)
        y.backward(gradient)
        assert x.grad is not None
        assert torch.equal(x.grad, wanted)
        assert not torch.equal(dropout.dropped(gradient, drop.noise.position, drop), wanted)


@DEVICES
def test_dropout_of_a_rank(device: str) -> None:
    """The elements of its samples in the batch of all ranks; passes far on are other ones."""
    shape = (2, 3, 4, 5)
    for position in (0, 2**40):
        drop = DropoutSettings(
            noise_at(position, device, SampleRange(4, 2, 9)), 0.5, 1.0, kernel=True
        )
        x = torch.ones(shape, device=device)
        expected = dropout.dropped(x, drop.noise.position, drop)
        assert torch.equal(dropout.dropout(x, drop), expected)
        whole = DropoutSettings(noise_at(position, device), 0.5, 1.0, kernel=True)
        ones = torch.ones((9, *shape[1:]), device=device)
        assert torch.equal(dropout.dropout(ones, whole)[4:6], expected)


WINDOWS = [
    PoolingWindows((2, 2), (2, 2), (0, 0), ceil=True),
    PoolingWindows((3, 3), (2, 2), (0, 0), ceil=True),
    PoolingWindows((3, 3), (2, 2), (1, 1), ceil=True),
    PoolingWindows((3, 2), (1, 2), (1, 0), ceil=False),
    PoolingWindows((5, 3), (3, 1), (2, 1), ceil=True),
    PoolingWindows((1, 1), (2, 2), (0, 0), ceil=True),
]


@DEVICES
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("windows", WINDOWS)
def test_pooling(windows: PoolingWindows, form: torch.memory_format, device: str) -> None:
    # Few distinct values, so that most windows have several maxima.
    x = random((2, 3, 7, 8), device, form=form).round()
    if device == "cpu":
        # On a GPU torch's own index of such a window, channels last, is that of the plane's start.
        x[0, 0, :4, :4] = float("-inf")
    x[1, 2, 3, 5] = float("nan")
    by_kernel = replace(windows, kernel_computes=True)
    for dtype in (torch.float32, torch.bfloat16):
        y, index = pooling.maxima(x.to(dtype), by_kernel)
        expected, expected_index = pooling.maxima_by_torch(x.to(dtype), windows)
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
        assert y.stride() == expected.stride()
        # Which of several NaN torch takes on a GPU is its own affair.
        places = ~expected.isnan() | (device == "cpu")
        assert torch.equal(index[places], expected_index[places])
    _, none = pooling.maxima(x, by_kernel, none_if_zero=True)
    assert torch.equal(
        none[places], pooling.maxima_by_torch(x, windows, none_if_zero=True)[1][places]
    )
    # Whole numbers, whose sums are exact in any order.
    gradient = (8 * random(tuple(y.shape), device, seed=2)).round()
    spread = pooling.spread(gradient, index, x.shape[2:], by_kernel)
    assert spread.stride() == x.stride()
    assert torch.equal(spread, pooling.spread_by_torch(gradient, index, x.shape[2:], windows))


@DEVICES
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 130, 3, 3), (3, 16, 20, 30)])
def test_rectified_gradients(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    form = torch.channels_last
    y = random(shape, device, dtype, form).relu()
    gradient = random(shape, device, dtype, form, seed=2)
    for given, order in ((gradient, y), (gradient.contiguous(), y.contiguous())):
        found, bias = rectified.rectified_gradient(given, order, kernel=True)
        expected, expected_bias = rectified.rectified_by_torch(gradient, y)
        assert torch.equal(found, expected)
        assert bias.dtype == torch.float32
        torch.testing.assert_close(bias, expected_bias, rtol=1e-5, atol=1e-4)
    _, again = rectified.rectified_gradient(gradient, y, kernel=True)
    assert torch.equal(again, bias)


@DEVICES
def test_several_blocks_of_rows_in_a_program(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectified, "_MOST_PROGRAMS", 3)
    shape = (3, 130, 9, 11)
    y = random(shape, device, torch.bfloat16, torch.channels_last).relu()
    found, bias = rectified.rectified_gradient(y, y, kernel=True)
    expected, expected_bias = rectified.rectified_by_torch(y, y)
    assert torch.equal(found, expected)
    torch.testing.assert_close(bias, expected_bias, rtol=1e-5, atol=1e-4)


@DEVICES
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 130, 4, 5), (3, 16, 20, 31)])
def test_unpooled_gradients(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    y = random(shape, device, dtype, torch.channels_last).relu()
    top, index = pooling.maxima_by_torch(y, rectified.HALVING, none_if_zero=True)
    gradient = random(tuple(top.shape), device, dtype, torch.channels_last, seed=2)
    found, bias = rectified.unpooled_gradient(gradient, index, shape[2:], kernel=True)
    expected, expected_bias = rectified.unpooled_gradient(gradient, index, shape[2:], kernel=False)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(bias, expected_bias, rtol=1e-5, atol=1e-4)


@DEVICES
@pytest.mark.parametrize("pixels_last", [False, True])
@pytest.mark.parametrize("blob_last", [False, True])
@pytest.mark.parametrize("mean", [None, (1, 1, 1), (3, 1, 1), (3, 5, 6)])
def test_normalisation(
    mean: tuple[int, ...] | None, blob_last: bool, pixels_last: bool, device: str
) -> None:
    generator = np.random.default_rng(1)
    pixels = torch.from_numpy(generator.integers(0, 256, (2, 3, 5, 6), dtype=np.uint8)).to(device)
    form = torch.channels_last if pixels_last else torch.contiguous_format
    means = None if mean is None else 100 * random(mean, device)
    for shifted, scale in ((False, 1.0), (True, 0.017)):
        shifts = random((2, 3, 1, 1), device, seed=3) if shifted else None
        crops = Crops(pixels.contiguous(memory_format=form), means, shifts, scale)
        for dtype in (torch.float32, torch.bfloat16):
            wanted = BlobForm(dtype, blob_last)
            blob = input_normalisation.normalised(crops, wanted, kernel=True)
            expected = input_normalisation.normalised_by_torch(crops, wanted)
            assert torch.equal(blob, expected)
            assert blob.stride() == expected.stride()
            if not blob_last:
                continue
            padded = BlobForm(dtype, channels_last=True, stored=8)
            found = input_normalisation.normalised(crops, padded, kernel=True)
            assert torch.equal(found, expected)
            whole = with_stored(found, 8)
            assert whole is not None
            assert not whole[:, 3:].any()
            by_torch = input_normalisation.normalised(crops, padded, kernel=False)
            again = with_stored(copy_with_layout(by_torch), 8)
            assert again is not None
            assert torch.equal(again, whole)


def test_channels_that_a_blob_is_stored_with() -> None:
    assert [stored_channels(count) for count in (1, 2, 3, 7, 8, 9, 64)] == [1, 2, 8, 8, 8, 16, 64]
    blob = torch.randn(2, 16, 3, 5).contiguous(memory_format=torch.channels_last)
    first = with_stored(blob[:, :3], 16)
    assert first is not None
    assert torch.equal(first, blob)
    # These are no first channels of 16, or not in that order.
    for other in (blob[:, 13:], blob[:, :3].contiguous(), blob, blob[:, :3, :, :4]):
        assert with_stored(other, 16) is None
        assert torch.equal(copy_with_layout(other), other)


@DEVICES
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("skip", [None, 0.0, 1.0])
def test_update(skip: float | None, dtype: torch.dtype, device: str) -> None:
    flag = None if skip is None else torch.full((1,), skip, device=device)
    rate = torch.tensor(0.03, device=device)
    given = Momentum(rate, flag, 0.9, 5e-4)
    for form in FORMATS:
        shape = (70, 5, 3, 3)
        gradient = random(shape, device, dtype, form, seed=2)
        states = []
        for kernel in (True, False):
            value = random(shape, device, form=torch.channels_last)
            history = random(shape, device, form=torch.channels_last, seed=3)
            copy = value.to(dtype)
            update.sgd_update([value], [gradient], [history], replace(given, kernel=kernel), [copy])
            assert torch.equal(copy, value.to(dtype))
            states.append((value, history))
        for found, expected in zip(*states, strict=True):
            assert torch.equal(found, expected)
        unchanged = torch.equal(states[0][0], random(shape, device, form=torch.channels_last))
        assert unchanged == (skip == 1.0)


@DEVICES
def test_a_kernel_that_does_not_run(device: str) -> None:
    with pytest.raises(NetError) as caught, launching("pooling", torch.zeros(1, device=device)):
        raise ValueError("out of resources\nmore")
    assert str(caught.value) == (
        f"the Triton kernel for pooling does not run on {torch.zeros(1, device=device).device}: "
        "ValueError: out of resources; train with --no-kernels"
    )


@pytest.mark.slow
def test_every_kernel_compiles(tmp_path: Path) -> None:
    """For a GPU, although there is none."""
    pytest.importorskip("triton")
    made = dict(line.split() for line in compiled("tests.net.kernels.compile_all", tmp_path))
    assert sorted(made) == launched_kernels()
    assert all(int(size) > 0 for size in made.values())


@pytest.mark.slow
def test_every_launch_compiles(tmp_path: Path) -> None:
    """As the package launches the kernels, for an H100, without a warning of Triton's."""
    pytest.importorskip("triton")
    (line,) = compiled("tests.net.kernels.compile_launches", tmp_path, "90")
    capability, variants, *names = line.split()
    assert capability == "90"
    assert int(variants) > 150
    assert names == launched_kernels()


def compiled(program: str, cache: Path, *arguments: str) -> list[str]:
    """The lines of a program that compiles kernels; warnings are errors in it."""
    environment = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", program, *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def launched_kernels() -> list[str]:
    """The names of those that no other kernel calls."""
    folder = ROOT / "caffecompat" / "net" / "kernels" / "triton_code"
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    names = re.findall(r"^@triton\.jit\ndef (\w+)\(", code, re.MULTILINE)
    return sorted(name for name in names if not re.search(rf"(?<!def ){name}\(", code))
