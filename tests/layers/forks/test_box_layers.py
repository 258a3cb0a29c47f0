"""Layers of hypercolumns, MNC, Cascade R-CNN and OpenPose, against loops over their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def test_scale_route_takes_the_regions_of_a_range() -> None:
    boxes = [[0, 0, 0, 9, 9], [1, 0, 0, 19, 19], [0, 5, 5, 4, 9], [1, 0, 0, 39, 9]]
    regions = torch.tensor(boxes, dtype=torch.float64)
    other = distinct((4, 2))
    text = "scale_route_param { low_scale: 10 high_scale: 20 }"
    rows, values = run("ScaleRoute", text, regions, other, tops=2)
    # Sizes are 10, 20, 0 (ends before it begins) and 20; 20 is not below high_scale.
    assert rows.shape == (1, 5, 1, 1)
    assert values.reshape(-1).tolist() == other[0].tolist()
    (rows,) = run("ScaleRoute", "scale_route_param { low_scale: 15 }", regions)
    assert rows.reshape(-1, 5).tolist() == [boxes[1], boxes[3]]
    # None fits: the nearest to the middle, sqrt(100 * 400) = 200, and 100 is nearer than 20.
    (rows,) = run("ScaleRoute", "scale_route_param { low_scale: 100 high_scale: 400 }", regions)
    assert rows.reshape(-1).tolist() == boxes[1]
    (rows,) = run("ScaleRoute", "scale_route_param { high_scale: 0.5 }", regions)
    assert rows.reshape(-1).tolist() == boxes[2]
    layer = made("ScaleRoute", text, (4, 5), (4, 2), tops=2)
    inferred = layer.infer(regions.to("meta"), other.to("meta"))
    assert [tuple(t.shape) for t in inferred] == [(1, 5, 1, 1), (1, 2, 1, 1)]
    with pytest.raises(LayerError, match="the smaller one first"):
        made("ScaleRoute", "scale_route_param { low_scale: 3 high_scale: 2 }", (4, 5))
    with pytest.raises(LayerError, match="expected 4 items"):
        run("ScaleRoute", text, regions, other[:3], tops=2)


def test_pick_slice_and_rep_mat() -> None:
    x = distinct((3, 6, 2, 2))
    groups = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64).reshape(3, 1)
    (y,) = run("PickSlice", "pick_slice_param { channels: 2 }", x, groups)
    for i, group in enumerate((2, 0, 1)):
        assert torch.equal(y[i], x[i, 2 * group : 2 * group + 2])
    with pytest.raises(LayerError, match="none of the 6 // 2 groups"):
        run("PickSlice", "pick_slice_param { channels: 2 }", x, groups + 1)
    (z,) = run("RepMat", "repmat_param { rep_w: 3 rep_c: 2 }", x[:, :, :, 0])
    assert tuple(z.shape) == (3, 12, 2, 3)
    for n, c, h, w in np.ndindex(*z.shape):
        assert z[n, c, h, w] == x[n, c % 6, h, 0]


def between(plane: Tensor, y: float, x: float) -> Tensor:
    """The bilinear value at row y, column x; neighbours beyond the plane are those at its edge."""
    h, w = plane.shape[-2:]
    top, left = math.floor(y), math.floor(x)
    total = torch.zeros(plane.shape[:-2], dtype=plane.dtype)
    for r, wr in ((top, 1 - y + top), (top + 1, y - top)):
        for c, wc in ((left, 1 - x + left), (left + 1, x - left)):
            total = total + wr * wc * plane[..., min(max(r, 0), h - 1), min(max(c, 0), w - 1)]
    return total


def test_box_upsample() -> None:
    maps = distinct((2, 4, 5, 6)).requires_grad_()
    rows = torch.tensor(
        [[1, 1, 0, 0, 1, 1], [0, 0, 0.25, 0.5, 0.75, 1], [1, 0, -0.1, 0.1, 0.4, 0.3]],
        dtype=torch.float64,
    )
    text = "box_upsample_param { width: 4 height: 3 channels: 2 }"
    (y,) = run("BoxUpsample", text, maps, rows)
    assert tuple(y.shape) == (3, 2, 3, 4)
    for n, (level, group, x1, y1, x2, y2) in enumerate(rows.tolist()):
        plane = maps.detach()[int(level), 2 * int(group) : 2 * int(group) + 2]
        for i, j in np.ndindex(3, 4):
            row = ((i + 0.5) * (y2 - y1) / 3 + y1) * 5 - 0.5
            column = ((j + 0.5) * (x2 - x1) / 4 + x1) * 6 - 0.5
            torch.testing.assert_close(y.detach()[n, :, i, j], between(plane, row, column))
    assert torch.autograd.gradcheck(lambda m: run("BoxUpsample", text, m, rows)[0], (maps,))
    with pytest.raises(LayerError, match="beyond 2x4x5x6"):
        run("BoxUpsample", text, maps, rows + 2)
    with pytest.raises(LayerError, match="must be given"):
        made("BoxUpsample", "box_upsample_param { width: 4 }", (2, 4, 5, 6), (3, 6))


def probability(scores: Tensor, grid: int, i: int, j: int) -> Tensor:
    """Interpolated sigmoids of one item's classes at pixel (i, j)."""
    _, h, w = scores.shape
    cells = (1 / (1 + (-scores[:, i, j]).exp())).reshape(-1, grid, grid)
    return between(cells, (i + 0.5) * grid / h - 0.5, (j + 0.5) * grid / w - 0.5)


def test_classifiers_of_a_grid() -> None:
    x = distinct((2, 18, 4, 5))
    (y,) = run("LocallyConnected", "local_layer_param { grid_size: 3 }", x)
    assert tuple(y.shape) == (2, 2, 4, 5)
    for n, i, j in np.ndindex(2, 4, 5):
        torch.testing.assert_close(y[n, :, i, j], probability(x[n], 3, i, j))
    with pytest.raises(LayerError, match="multiple of 9"):
        run("LocallyConnected", "local_layer_param { grid_size: 3 }", x[:, :17])


def test_loss_of_classifiers_of_a_grid() -> None:
    x = distinct((2, 4, 3, 3)).requires_grad_()
    labels = torch.tensor([1, 0, -1, 1, 1, 0, 0, -1, 1], dtype=torch.float64)
    labels = torch.stack([labels, labels.flip(0)]).reshape(2, 1, 3, 3)
    weights = torch.tensor([0.5, 2.0], dtype=torch.float64)
    text = "local_layer_param { grid_size: 2 pos_loss_wt: 3 neg_loss_wt: 0.25 }"
    (loss,) = run("LocallyConnectedWithLoss", text, x, labels, weights)
    weighted = plain = torch.zeros((), dtype=torch.float64)
    for n, i, j in np.ndindex(2, 3, 3):
        p, label = probability(x[n], 2, i, j)[0], labels[n, 0, i, j]
        if label == 1:
            weighted = weighted - 3 * weights[n] * p.log()
            plain = plain - weights[n] * p.log()
        elif label == 0:
            weighted = weighted - 0.25 * weights[n] * (1 - p).log()
            plain = plain - weights[n] * (1 - p).log()
    torch.testing.assert_close(loss.detach(), weighted.detach() / 2)
    (own,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(own, torch.autograd.grad(plain, x)[0])


def test_roi_warping() -> None:
    features = distinct((2, 2, 6, 7)).requires_grad_()
    rows = [[1, 2, 2, 10, 9], [0, 0, 0, 13, 11], [1, -1, 4, 3, 30], [0, 9, 9, 4, 4]]
    regions = torch.tensor(rows, dtype=torch.float64)
    text = "roi_warping_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }"
    (y,) = run("ROIWarping", text, features, regions)

    def corner(v: float) -> float:
        return math.copysign(math.floor(abs(v) * 0.5 + 0.5), v)

    for n, row in enumerate(rows):
        x1, y1, x2, y2 = (corner(v) for v in row[1:])
        for i, j in np.ndindex(3, 2):
            at_y = y1 + i * max(y2 - y1, 0) / 3
            at_x = x1 + j * max(x2 - x1, 0) / 2
            if not (-0.5 <= at_y <= 5.5 and -0.5 <= at_x <= 6.5):
                assert not y[n, :, i, j].any()
                continue
            at_y, at_x = min(max(at_y, 0), 5), min(max(at_x, 0), 6)
            expected = between(features.detach()[row[0]], at_y, at_x)
            torch.testing.assert_close(y.detach()[n, :, i, j], expected)
    assert torch.autograd.gradcheck(lambda f: run("ROIWarping", text, f, regions)[0], (features,))
    with pytest.raises(LayerError, match="names an image beyond"):
        run("ROIWarping", text, features, regions + 2)


def test_roi_warping_moves_its_regions() -> None:
    """Between whole corners the gradient is that of points that move with unrounded corners."""
    features = distinct((1, 2, 8, 9))
    regions = torch.tensor([[0, 2, 4, 9, 12]], dtype=torch.float64, requires_grad=True)
    text = "roi_warping_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }"
    (y,) = run("ROIWarping", text, features, regions)
    weights = distinct(y.shape, 3)
    (gradient,) = torch.autograd.grad((y * weights).sum(), regions)
    corners = torch.tensor([1.0, 2.0, 5.0, 6.0], dtype=torch.float64, requires_grad=True)
    total = torch.zeros((), dtype=torch.float64)
    for i, j in np.ndindex(2, 3):
        at_y = corners[1] + i * (corners[3] - corners[1]) / 2
        at_x = corners[0] + j * (corners[2] - corners[0]) / 3
        top, left = int(at_y), int(at_x)
        for r, wr in ((top, 1 - at_y + top), (top + 1, at_y - top)):
            for c, wc in ((left, 1 - at_x + left), (left + 1, at_x - left)):
                total = total + (wr * wc * features[0, :, r, c] * weights[0, :, i, j]).sum()
    (expected,) = torch.autograd.grad(total, corners)
    assert gradient[0, 0] == 0
    torch.testing.assert_close(gradient[0, 1:], 0.5 * expected)


def catmull_rom(v: list[Tensor], d: float) -> Tensor:
    a = -0.5 * v[0] + 1.5 * v[1] - 1.5 * v[2] + 0.5 * v[3]
    b = v[0] - 2.5 * v[1] + 2.0 * v[2] - 0.5 * v[3]
    return ((a * d + b) * d + (-0.5 * v[0] + 0.5 * v[2])) * d + v[1]


def neighbours(at: float, extent: int) -> tuple[list[int], float]:
    second = max(int(at + 1e-5), 0)
    third = min(second + 1, extent - 1)
    return [max(second - 1, 0), second, third, min(third + 1, extent - 1)], at - second


def test_im_resize_averages_scales() -> None:
    x = distinct((2, 2, 6, 9))
    text = "imresize_param { factor: 1.5 start_scale: 1 scale_gap: 0.4 }"
    (y,) = run("ImResize", text, x)
    assert tuple(y.shape) == (1, 2, 9, 13)
    # Of the second map floor(3 * 0.4) = 1 row and floor(4 * 0.4) = 1 column are left out.
    for c, i, j in np.ndindex(2, 9, 13):
        total = torch.zeros((), dtype=x.dtype)
        for plane in (x[0, c], x[1, c, 1:-1, 1:-1]):
            h, w = plane.shape
            rows, dy = neighbours((i - (9 / h / 2 - 0.5)) * h / 9, h)
            columns, dx = neighbours((j - (13 / w / 2 - 0.5)) * w / 13, w)
            lines = [catmull_rom([plane[r, k] for k in columns], dx) for r in rows]
            total = total + catmull_rom(lines, dy)
        torch.testing.assert_close(y[0, c, i, j], total / 2)
    with pytest.raises(LayerError, match="leave"):
        run("ImResize", "imresize_param { scale_gap: 3 }", x)


def test_nms_finds_peaks() -> None:
    x = torch.zeros(2, 3, 7, 9, dtype=torch.float64)
    x[0, 0, 2, 3], x[0, 0, 2, 4], x[0, 0, 4, 6], x[0, 0, 0, 8], x[0, 0, 5, 1] = 1, 0.5, 2, 9, -1
    x[1, 1, 3, 3] = x[1, 1, 3, 4] = 0.7  # no peak: equal neighbours
    x[1, 0, 1, 1], x[1, 0, 1, 3], x[1, 0, 1, 5] = 0.3, 0.4, 0.5
    text = "nms_param { threshold: 0.25 max_peaks: 2 num_parts: 2 }"
    (y,) = run("Nms", text, x)
    assert tuple(y.shape) == (2, 2, 3, 3)
    assert y[0, 0, 0].tolist() == [2, 0, 0]
    for row, (r, c) in enumerate([(2, 3), (4, 6)], 1):
        total = weight_x = weight_y = 0.0
        for i in range(max(r - 3, 1), min(r + 4, 7)):
            for j in range(max(c - 3, 1), min(c + 4, 9)):
                value = max(float(x[0, 0, i, j]), 0)
                total, weight_x, weight_y = (
                    total + value,
                    weight_x + j * value,
                    weight_y + i * value,
                )
        expected = [weight_x / total, weight_y / total, float(x[0, 0, r, c])]
        assert y[0, 0, row].tolist() == pytest.approx(expected)
    assert not y[0, 1].any()
    assert not y[1, 1].any()
    # Three peaks, of which two have a row.
    assert y[1, 0, 0, 0] == 3
    assert y[1, 0, 1:, 2].tolist() == [0.3, 0.4]
    with pytest.raises(LayerError, match="2 maps or more"):
        run("Nms", text, x[:, :1])


def test_broadcast_operations() -> None:
    a, b = distinct((2, 3, 4)), distinct((3, 1), 1)
    for name, rule in (("Add", torch.add), ("Mul", torch.mul), ("Maximum", torch.maximum)):
        assert torch.equal(run(name, "", a, b)[0], rule(a, b.expand(2, 3, 4)))
        with pytest.raises(LayerError, match="counted from the last one"):
            run(name, "", a, distinct((2, 4)))
    scalar = torch.tensor(2.5, dtype=torch.float64)
    (y,) = run("Mul", "mul_param { mul_shape: 4 }", a, parameters=(distinct((4,), 2),))
    assert torch.equal(y, a * distinct((4,), 2))
    assert torch.equal(run("Add", "", scalar, a)[0], a + 2.5)
    layer = made("Mul", "", a.shape, b.shape)
    assert not layer.specs
    assert len(call(layer, [a, b], [])) == 1
