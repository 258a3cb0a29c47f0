"""Pooling against loops over windows, for every small geometry."""

from __future__ import annotations

from itertools import product
from math import ceil, floor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caffecompat.errors import LayerError
from caffecompat.layers._pooling_windows import Windows
from tests.layers.messages import distinct, made, run

Floats = NDArray[np.float64]


def count_along(size: int, kernel: int, stride: int, pad: int, up: bool, clip: bool) -> int:
    exact = (size + 2 * pad - kernel) / stride
    count = (ceil(exact) if up else floor(exact)) + 1
    return count - 1 if clip and (count - 1) * stride >= size + pad else count


def by_loops(x: Floats, windows: Windows) -> tuple[Floats, Floats, Floats]:
    """Maxima, their indices and averages of a plane, as the definition says it."""
    (h, w), (kh, kw), (sh, sw), (ph, pw) = windows.size, windows.kernel, windows.stride, windows.pad
    clip = any(windows.pad)
    rows = count_along(h, kh, sh, ph, windows.ceil, clip)
    columns = count_along(w, kw, sw, pw, windows.ceil, clip)
    greatest, index, mean = (np.zeros((rows, columns)) for _ in range(3))
    for i, j in product(range(rows), range(columns)):
        top, left = i * sh - ph, j * sw - pw
        counted = (min(top + kh, h + ph) - top) * (min(left + kw, w + pw) - left)
        inside = [
            (x[r, c], r * w + c)
            for r in range(max(top, 0), min(top + kh, h))
            for c in range(max(left, 0), min(left + kw, w))
        ]
        best = max(
            inside, key=lambda pair: (pair[0], -pair[1]), default=(-3.4028234663852886e38, -1)
        )
        greatest[i, j], index[i, j] = best
        mean[i, j] = sum(value for value, _ in inside) / counted if inside else 0
    return greatest, index, mean


def geometries() -> list[Windows]:
    along = [
        (size, kernel, stride, pad)
        for size, kernel, stride in product((3, 4, 7), range(1, 6), range(1, 5))
        for pad in range(kernel)
        if size + 2 * pad - kernel > -stride
    ]
    # Every geometry along one axis, with a changing partner along the other.
    pairs = [(a, along[(7 * i + 3) % len(along)]) for i, a in enumerate(along)]
    return [
        Windows((a[0], b[0]), (a[1], b[1]), (a[2], b[2]), (a[3], b[3]), up)
        for a, b in pairs
        for up in (True, False)
    ]


def text_of(windows: Windows, method: str) -> str:
    parts = [f"pool: {method}", f"round_mode: {'CEIL' if windows.ceil else 'FLOOR'}"]
    for name in ("kernel", "stride", "pad"):
        vertical, horizontal = getattr(windows, name)
        parts.append(f"{name}_h: {vertical} {name}_w: {horizontal}")
    return f"pooling_param {{ {' '.join(parts)} }}"


def test_all_geometries() -> None:
    modes = set()
    for windows in geometries():
        x = distinct((2, 3, *windows.size), seed=1)
        greatest, index, mean = by_loops(x[1, 2].numpy(), windows)
        if not greatest.size:
            continue
        modes.add(windows.torch_mode())
        assert windows.count == greatest.shape, windows
        values, mask = run("Pooling", text_of(windows, "MAX"), x, tops=2)
        (plain,) = run("Pooling", text_of(windows, "MAX"), x)
        (average,) = run("Pooling", text_of(windows, "AVE"), x)
        assert np.array_equal(values[1, 2], greatest), windows
        assert np.array_equal(plain[1, 2], greatest), windows
        assert np.array_equal(mask[1, 2], index), windows
        assert np.allclose(average[1, 2], mean, rtol=0, atol=1e-12), windows
    assert modes == {True, False, None}


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("kernel_size: 2 stride: 2", (8, 6)),  # VGG
        ("kernel_size: 3 stride: 2", (13, 27)),  # AlexNet
        ("kernel_size: 3 stride: 2 pad: 1", (7, 8)),  # ResNet-like
    ],
)
def test_common_geometries_are_one_call(text: str, mode: tuple[int, int]) -> None:
    layer = made("Pooling", f"pooling_param {{ {text} }}", (1, 2, *mode))
    assert layer._windows((1, 2, *mode)).torch_mode() is not None  # type: ignore[attr-defined]


def test_padding_never_wins() -> None:
    x = -distinct((1, 2, 3, 5)).abs()
    for pad in (1, 2):
        (y,) = run("Pooling", f"pooling_param {{ kernel_size: 3 pad: {pad} }}", x)
        assert (y < 0).all()


def test_first_of_equal_values_gets_the_gradient() -> None:
    x = torch.ones(1, 1, 4, 6, requires_grad=True)
    y, index = run("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", x, tops=2)
    y.sum().backward()
    assert x.grad is not None
    assert index.flatten().tolist() == [0, 2, 4, 12, 14, 16]
    assert x.grad.nonzero()[:, 2:].tolist() == [[0, 0], [0, 2], [0, 4], [2, 0], [2, 2], [2, 4]]


def test_resized_input_moves_the_windows() -> None:
    layer = made("Pooling", "pooling_param { global_pooling: true pool: AVE }", (1, 2, 4, 6))
    x = distinct((2, 3, 5, 7))
    assert torch.allclose(layer.forward(x), x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("half", ["kernel_h: 5", "kernel_w: 5"])
def test_kernel_size_beside_half_of_the_other_form(half: str) -> None:
    """Caffe takes kernel_size and does not look at the half."""
    x = distinct((2, 3, 5, 7))
    (y,) = run("Pooling", f"pooling_param {{ kernel_size: 2 {half} }}", x)
    assert torch.equal(y, x.unfold(2, 2, 1).unfold(3, 2, 1).amax((4, 5)))


def test_stochastic_takes_elements_in_proportion() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, 5.0]]).expand(4000, 1, 2, 2).clone()
    (y,) = run("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", x)
    for value in (1.0, 2.0, 5.0):
        assert (y == value).double().mean().item() == pytest.approx(value / 8, abs=0.03)
    (mean,) = run("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", x, phase="TEST")
    assert torch.allclose(mean, torch.tensor(30 / 8))


@pytest.mark.parametrize(
    ("text", "shape", "tops", "words"),
    [
        ("", (1, 2, 5, 6), 1, "no kernel"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 3", (1, 2, 5, 6), 1, "kernel_size and kernel_h"),
        ("kernel_h: 2", (1, 2, 5, 6), 1, "kernel_h"),
        ("kernel_size: 0", (1, 2, 5, 6), 1, "positive"),
        ("kernel_size: 2 stride_h: 2", (1, 2, 5, 6), 1, "stride_h and stride_w"),
        ("kernel_size: 2 stride: 0", (1, 2, 5, 6), 1, "stride is 0"),
        ("kernel_size: 2 pad: 2", (1, 2, 5, 6), 1, "smaller than the kernel"),
        ("kernel_size: 2 pad_w: 1", (1, 2, 5, 6), 1, "pad_h and pad_w"),
        ("global_pooling: true kernel_size: 2", (1, 2, 5, 6), 1, "exclude each other"),
        ("global_pooling: true stride: 2", (1, 2, 5, 6), 1, "stride 1"),
        ("pool: AVE kernel_size: 2", (1, 2, 5, 6), 2, "no second top"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", (1, 2, 5, 6), 1, "needs pad 0"),
        ("kernel_size: 2", (5, 6), 1, "4 axes"),
        ("kernel_size: 9", (1, 2, 3, 5), 1, "too small"),
    ],
)
def test_refused(text: str, shape: tuple[int, ...], tops: int, words: str) -> None:
    with pytest.raises(LayerError, match=words) as caught:
        made("Pooling", f"pooling_param {{ {text} }}", shape, tops=tops).forward(torch.zeros(shape))
    assert str(caught.value).startswith("layer 'one' (Pooling): ")
