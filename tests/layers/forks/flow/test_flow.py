"""Layers of optical flow, against plain loops."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from caffecompat.layers import BuildOptions, Context, catalogue
from caffecompat.weights.mean_file import write_mean
from tests.layers.messages import distinct, made, message, run

FLOW = "L1Loss (FlowNet)"


@pytest.mark.parametrize("by_location", [False, True])
@pytest.mark.parametrize("by_entries", [False, True])
@pytest.mark.parametrize("plateau", [0, 0.4])
def test_loss_of_flow(by_location: bool, by_entries: bool, plateau: float) -> None:
    x, target = distinct((2, 2, 3, 4), 1), distinct((2, 2, 3, 4), 2)
    target[0, :, 1, 2] = math.nan
    x.requires_grad_()
    text = (
        f"l1_loss_param {{ l2_per_location: {str(by_location).lower()} plateau: {plateau} "
        f"normalize_by_num_entries: {str(by_entries).lower()} epsilon: 0.02 "
        "l2_prescale_by_channels: true }"
    )
    (loss,) = run(FLOW, text, x, target)
    d = (x.detach() - target).numpy()
    total = 0.0
    for n, h, w in product(range(2), range(3), range(4)):
        pixel = [0.0 if math.isnan(v) else float(v) for v in d[n, :, h, w]]
        if by_location:
            square = sum(v * v for v in pixel) / 2
            total += math.sqrt((square if square >= plateau**2 else 0) + 0.02)
        else:
            total += sum(abs(v) for v in pixel if abs(v) >= plateau)
    divisor = np.count_nonzero(~np.isnan(d)) / 2 if by_entries else 2
    assert math.isclose(float(loss.detach()), total / divisor, rel_tol=1e-7)
    (gradient,) = torch.autograd.grad(loss, x)
    assert bool(gradient.isfinite().all())
    assert gradient[0, :, 1, 2].tolist() == [0, 0]


def test_two_definitions_of_the_same_name() -> None:
    plain = message("L1Loss", "bottom: 'a' bottom: 'b'")
    assert catalogue.choose(plain).fork == "NVCaffe, DetectNet"
    set_up = message("L1Loss", "bottom: 'a' bottom: 'b' l1_loss_param { epsilon: 1 }")
    assert catalogue.choose(set_up).fork == "FlowNet"
    assert catalogue.choose(message("L1Loss", "bottom: 'a'")).fork == "FlowNet"
    x, target = distinct((2, 3), 1), distinct((2, 3), 2)
    (loss,) = run("L1Loss (NVCaffe, DetectNet)", "", x, target)
    torch.testing.assert_close(loss, (x - target).abs().sum() / 2)


@pytest.mark.parametrize("kind", ["MULTIPLY", "SUBTRACT"])
@pytest.mark.parametrize(
    ("pad", "kernel", "reach", "stride", "step"),
    [(2, 1, 2, 1, 1), (3, 3, 2, 2, 2), (1, 1, 3, 2, 1), (4, 3, 3, 1, 2)],
)
def test_correlation(kind: str, pad: int, kernel: int, reach: int, stride: int, step: int) -> None:
    a, b = distinct((2, 3, 8, 9), 1), distinct((2, 3, 8, 9), 2)
    text = (
        f"correlation_param {{ pad: {pad} kernel_size: {kernel} max_displacement: {reach} "
        f"stride_1: {stride} stride_2: {step} correlation_type: {kind} }}"
    )
    (y,) = run("Correlation", text, a, b)
    around = [(0, 0), (0, 0), (pad, pad), (pad, pad)]
    first, second = np.pad(a.numpy(), around), np.pad(b.numpy(), around)
    radius = reach // step
    wide = 2 * radius + 1
    edge = reach + (kernel - 1) // 2
    rows, columns = (math.ceil((n + 2 * pad - 2 * edge) / stride) for n in (8, 9))
    assert y.shape == (2, wide * wide, rows, columns)
    for n, k, i, j in product(range(2), range(wide * wide), range(rows), range(columns)):
        dy, dx = (k // wide - radius) * step, (k % wide - radius) * step
        top, left = i * stride + reach, j * stride + reach
        one = first[n, :, top : top + kernel, left : left + kernel]
        two = second[n, :, top + dy : top + dy + kernel, left + dx : left + dx + kernel]
        both = one * two if kind == "MULTIPLY" else np.abs(one - two)
        assert abs(float(y[n, k, i, j]) - both.sum() / (kernel * kernel * 3)) < 1e-12


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_correlation_along_rows(direction: int) -> None:
    a, b = distinct((1, 2, 5, 9), 1), distinct((1, 2, 5, 9), 2)
    text = (
        "correlation_param { pad: 3 kernel_size: 3 max_displacement: 2 stride_1: 1 stride_2: 1 "
        f"single_direction: {direction} }}"
    )
    (y,) = run("Correlation1D", text, a, b)
    # One more column of zeros on the left for the displacement of -3.
    first = np.pad(a.numpy(), [(0, 0), (0, 0), (0, 0), (4, 3)])
    second = np.pad(b.numpy(), [(0, 0), (0, 0), (0, 0), (4, 3)])
    moves = {-1: [-3, -2, -1], 0: [-2, -1, 0, 1, 2], 1: [0, 1, 2]}[direction]
    assert y.shape == (1, len(moves), 3, 9)
    for k, i, j in product(range(len(moves)), range(3), range(9)):
        left = j + 2 + 1
        one = first[0, :, i : i + 3, left : left + 3]
        two = second[0, :, i : i + 3, left + moves[k] : left + moves[k] + 3]
        assert abs(float(y[0, k, i, j]) - (one * two).sum() / 18) < 1e-12


def test_correlations_that_are_refused() -> None:
    shape = (1, 2, 4, 4)
    for text, sentence in (
        ("kernel_size: 2 max_displacement: 1", "kernel_size is 2, it must be given and odd"),
        ("kernel_size: 1", "max_displacement is missing"),
    ):
        with pytest.raises(LayerError, match=sentence):
            made("Correlation", f"correlation_param {{ {text} }}", shape, shape)
    x = distinct(shape)
    with pytest.raises(LayerError, match="do not fit"):
        run("Correlation", "correlation_param { kernel_size: 1 max_displacement: 2 }", x, x)


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return x * x * (1.5 * x - 2.5) + 1
    return x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0.0


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC"])
@pytest.mark.parametrize("size", [(4, 3), (14, 9), (4, 11), (7, 6)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resampling(kind: str, size: tuple[int, int], antialias: bool) -> None:
    x = distinct((1, 2, 7, 6), 1)
    text = (
        f"resample_param {{ height: {size[0]} width: {size[1]} type: {kind} "
        f"antialias: {str(antialias).lower()} }}"
    )
    (y,) = run("Resample", text, x)
    fy, fx = 7 / size[0], 6 / size[1]
    smooth = antialias and (fx > 1 or fy > 1)
    ax, ay = (1 / fx, 1 / fy) if smooth else (1, 1)
    width = 2 if kind == "LINEAR" else 4
    weigh = triangle if kind == "LINEAR" else cubic
    rx = 2 if fx < 1 else math.ceil(width / ax)
    ry = 2 if fy < 1 else math.ceil(width / ay)
    for i, j in product(range(size[0]), range(size[1])):
        sx, sy = j * fx + fy / 2 - 0.5, i * fy + fx / 2 - 0.5
        nx, ny = (int(math.copysign(math.floor(abs(s) + 0.5), s)) for s in (sx, sy))
        total, weights = np.zeros(2), 0.0
        for v, u in product(range(ny - ry, ny + ry + 1), range(nx - rx, nx + rx + 1)):
            if 0 <= v < 7 and 0 <= u < 6:
                w = weigh(ax * (sx - u)) * weigh(ay * (sy - v))
                total += w * x[0, :, v, u].numpy()
                weights += w
        expected = total / weights if weights else total
        np.testing.assert_allclose(y[0, :, i, j], expected, atol=1e-9)


def test_nearest_pixels_in_the_size_of_another_blob() -> None:
    x = distinct((1, 1, 4, 4), 1)
    (y,) = run("Resample", "resample_param { type: NEAREST }", x, distinct((1, 3, 2, 2)))
    assert torch.equal(y, x[:, :, 1::2, 1::2])
    with pytest.raises(LayerError, match="type is AREA"):
        made("Resample", "resample_param { type: AREA }", (1, 1, 4, 4))


@pytest.mark.parametrize("fill", ["ZERO", "NOT_A_NUMBER"])
def test_warping(fill: str) -> None:
    image, flow = distinct((2, 3, 4, 5), 1), distinct((2, 2, 4, 5), 2) * 2
    (y,) = run("FlowWarp", f"flow_warp_param {{ fill_value: {fill} }}", image, flow)
    found = 0
    for n, i, j in product(range(2), range(4), range(5)):
        u, v = j + float(flow[n, 0, i, j]), i + float(flow[n, 1, i, j])
        if not (0 <= u < 5 and 0 <= v < 4):
            outside = y[n, :, i, j]
            assert bool(outside.isnan().all()) if fill == "NOT_A_NUMBER" else not outside.any()
            continue
        found += 1
        left, top = int(u), int(v)
        right, bottom = min(left + 1, 4), min(top + 1, 3)
        a, b = u - left, v - top
        expected = (1 - b) * ((1 - a) * image[n, :, top, left] + a * image[n, :, top, right])
        expected += b * ((1 - a) * image[n, :, bottom, left] + a * image[n, :, bottom, right])
        torch.testing.assert_close(y[n, :, i, j], expected)
    assert 5 < found < 40


def test_downsampling_with_unknown_values() -> None:
    x = distinct((1, 1, 7, 9), 1)
    x[0, 0, 1, 3] = math.nan
    x[0, 0, 5:, 6:] = math.nan
    (y,) = run("Downsample", "downsample_param { top_height: 3 top_width: 4 }", x)
    sy, sx = 6 / 2, 8 / 3
    for i, j in product(range(3), range(4)):
        v, u = i * sy, j * sx
        total = kept = lost = 0.0
        for r, c in product(range(7), range(9)):
            if abs(r - round(v)) > math.ceil(sy) or abs(c - round(u)) > math.ceil(sx):
                continue
            weight = triangle((r - v) / sy) * triangle((c - u) / sx)
            if math.isnan(float(x[0, 0, r, c])):
                lost += weight
            else:
                kept += weight
                total += weight * float(x[0, 0, r, c])
        found = float(y[0, 0, i, j])
        if kept < 1e-12 or lost / kept > 0.5:
            assert math.isnan(found) or kept < 1e-12
        else:
            assert abs(found - total / kept) < 1e-9
    assert bool(y.isnan().any())
    assert not bool(y.isnan().all())
    (same,) = run("Downsample", "downsample_param { top_height: 7 top_width: 9 }", x)
    torch.testing.assert_close(same, x, equal_nan=True)


def test_means(tmp_path: Path) -> None:
    x = distinct((2, 4, 2, 3), 1)
    text = (
        "mean_param { operation: SUBTRACT value: 0.5 value: 1 input_scale: 2 mean_scale: 3 "
        "output_scale: 0.25 }"
    )
    (y,) = run("Mean", text, x)
    mean = torch.tensor([0.5, 1, 0.5, 1], dtype=torch.float64).view(4, 1, 1)
    torch.testing.assert_close(y, 0.25 * (2 * x - 3 * mean))
    values = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    write_mean(values, tmp_path / "m.binaryproto")
    text = f"mean_param {{ operation: ADD file: '{tmp_path / 'm.binaryproto'}' }}"
    first, second = run("Mean", text, x, x * 2, tops=2)
    added = torch.from_numpy(np.tile(values, (2, 1, 1))).double()
    torch.testing.assert_close(first, x + added)
    torch.testing.assert_close(second, 2 * x + added)


def test_accumulation() -> None:
    small, large = distinct((2, 1, 2, 3), 1), distinct((2, 2, 3, 5), 2)
    (y,) = run("Accum", "", small, large)
    assert y.shape == (2, 3, 3, 5)
    torch.testing.assert_close(y[:, 1:], large)
    for i, j in product(range(3), range(5)):
        v, u = i / 2, j / 2
        top, left = min(int(v), 0), min(int(u), 1)
        a, b = u - left, v - top
        p = small[:, 0]
        expected = (1 - b) * ((1 - a) * p[:, top, left] + a * p[:, top, left + 1])
        expected += b * ((1 - a) * p[:, top + 1, left] + a * p[:, top + 1, left + 1])
        torch.testing.assert_close(y[:, 0, i, j], expected)
    (multiple,) = run("Accum", "accum_param { size_divisible_by: 4 }", small, large)
    assert multiple.shape == (2, 3, 4, 8)
    (like,) = run("Accum", "accum_param { have_reference: true }", large, small)
    assert like.shape == (2, 2, 2, 3)


def test_norms_and_orientations() -> None:
    x = distinct((2, 6, 2, 3), 1)
    torch.testing.assert_close(run("ChannelNorm", "", x)[0], x.norm(dim=1, keepdim=True))
    (y,) = run("Extend", "orn_param { orientations: 3 }", x)
    assert torch.equal(y, x[:, [c // 3 for c in range(18)]])
    (y,) = run("ORPooling", "orn_param { orientations: 3 }", x)
    assert torch.equal(y, torch.stack([x[:, :3].amax(1), x[:, 3:].amax(1)], 1))


def warped_at(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The channels of (C, H, W) between pixels; 0 beyond the last row and column."""
    _, height, width = image.shape
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        return np.zeros(len(image))
    left, top = int(np.floor(x)), int(np.floor(y))
    right, bottom = int(np.ceil(x)), int(np.ceil(y))
    a, b = x - left, y - top
    upper = (1 - a) * image[:, top, left] + a * image[:, top, right]
    lower = (1 - a) * image[:, bottom, left] + a * image[:, bottom, right]
    return np.asarray((1 - b) * upper + b * lower)


def test_warping_of_pwc_net() -> None:
    image, flow = distinct((2, 3, 4, 5), 1), distinct((2, 2, 4, 5), 2) * 2
    flow[:, :, 1:3] = flow[:, :, 1:3].round()
    (y,) = run("Warp", "", image, flow)
    for n, i, j in product(range(2), range(4), range(5)):
        u, v = j + float(flow[n, 0, i, j]), i + float(flow[n, 1, i, j])
        np.testing.assert_allclose(y[n, :, i, j], warped_at(image[n].numpy(), u, v), atol=1e-12)
    assert 5 < int((y[:, 0] != 0).sum()) < 40


def test_slopes_of_pwc_net_at_whole_places() -> None:
    """The mean of the slopes on both sides; a slope across the border is 0."""
    image = distinct((1, 1, 3, 4))
    flow = torch.zeros(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    (y,) = run("Warp", "", image, flow)
    (found,) = torch.autograd.grad(y.sum(), flow)
    plane = image[0, 0].numpy()
    for i, j in product(range(3), range(4)):
        left = plane[i, j] - plane[i, j - 1] if j > 0 else 0
        right = plane[i, j + 1] - plane[i, j] if j < 3 else 0
        up = plane[i, j] - plane[i - 1, j] if i > 0 else 0
        down = plane[i + 1, j] - plane[i, j] if i < 2 else 0
        wanted = [(left + right) / 2, (up + down) / 2]
        np.testing.assert_allclose(found[0, :, i, j], wanted, atol=1e-12)


def test_slopes_of_pwc_net_where_only_the_row_is_whole() -> None:
    image = distinct((1, 2, 3, 4))
    flow = torch.tensor([0.25, 0.0], dtype=torch.float64).view(1, 2, 1, 1).repeat(1, 1, 3, 4)
    flow.requires_grad_()
    (y,) = run("Warp", "", image, flow)
    (found,) = torch.autograd.grad(y.sum(), flow)
    planes = image[0].numpy()
    between = 0.75 * planes[:, :, 1] + 0.25 * planes[:, :, 2]
    wanted = [(planes[:, 1, 2] - planes[:, 1, 1]).sum(), (between[:, 2] - between[:, 0]).sum() / 2]
    np.testing.assert_allclose(found[0, :, 1, 1], wanted)


def test_sum_of_one_bottom_multiplies_it() -> None:
    x = distinct((2, 3))
    (y,) = run("Eltwise", "eltwise_param { operation: SUM coeff: 0.625 }", x)
    torch.testing.assert_close(y, 0.625 * x)
    for operation in ("PROD", "MAX"):
        with pytest.raises(LayerError, match=r"takes at least 2 bottom\(s\), found 1"):
            made("Eltwise", f"eltwise_param {{ operation: {operation} }}", (2, 3))
    strict = catalogue.find("Eltwise")(Context("TEST", "layer 'e'", BuildOptions(strict=True)))
    with pytest.raises(LayerError, match="found 1"):
        strict.setup(message("Eltwise"), [(2, 3)])
