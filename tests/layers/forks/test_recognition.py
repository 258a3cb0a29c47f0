"""Layers of faces, metric learning and binary codes, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import distinct, made, run
from tests.layers.single import call


def labelled(rows: int, classes: int) -> Tensor:
    return torch.tensor([float((3 * n + 1) % classes) for n in range(rows)], dtype=torch.float64)


def gradients(loss: Tensor, *inputs: Tensor) -> list[np.ndarray]:
    return [g.numpy() for g in torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_center_loss(kind: str) -> None:
    x, centers = distinct((5, 4), 1).requires_grad_(), distinct((3, 4), 2).requires_grad_()
    labels = labelled(5, 3)
    text = f"center_loss_param {{ num_output: 3 distance_type: '{kind}' }}"
    (loss,) = run("CenterLoss", text, x, labels, parameters=[centers])
    along_x, along_centers = gradients(3 * loss, x, centers)
    a, c = x.detach().numpy(), centers.detach().numpy()
    total, expected_x, expected_c = 0.0, np.zeros((5, 4)), np.zeros((3, 4))
    for n, label in enumerate(labels.int().tolist()):
        for k in range(4):
            d = a[n, k] - c[label, k]
            total += abs(d) if kind == "L1" else d * d / 2
            step = np.sign(d) if kind == "L1" else d
            expected_x[n, k] = 3 * step / 5
            expected_c[label, k] -= step / (labels.int().tolist().count(label) + 1)
    assert math.isclose(float(loss.detach()), total / 5)
    np.testing.assert_allclose(along_x, expected_x)
    # The loss weight does not enter.
    np.testing.assert_allclose(along_centers, expected_c)


MARGINS = {"SINGLE": 1, "DOUBLE": 2, "TRIPLE": 3, "QUADRUPLE": 4}


def falling(cosine: float, m: int) -> float:
    """(-1)^k cos(m angle) - 2 k, with k the part of [0, pi], cut into m, that holds the angle."""
    angle = math.acos(cosine)
    k = min(int(angle * m / math.pi), m - 1)
    return (-1) ** k * math.cos(m * angle) - 2 * k


def angular(
    x: np.ndarray, w: np.ndarray, labels: list[int], m: int, lambda_: float
) -> tuple[np.ndarray, np.ndarray]:
    """SphereFace's scores for rows w of norm 1, and the gradient of x for an upstream of ones."""
    plain = x @ w.T
    scores, gradient = plain.copy(), np.zeros_like(x)
    for n, label in enumerate(labels):
        size = np.linalg.norm(x[n])
        cosine = plain[n, label] / size
        if m == 1:
            gradient[n] = w.sum(0)
            continue
        scores[n, label] = size * falling(cosine, m)
        h = 1e-6
        slope = (falling(cosine + h, m) - falling(cosine - h, m)) / (2 * h)
        along = (falling(cosine, m) - cosine * slope) / size
        own = (slope * w[label] + along * x[n]) / math.hypot(slope, along)
        gradient[n] = (own + w.sum(0) - w[label] + lambda_ * w.sum(0)) / (1 + lambda_)
    return (scores if m == 1 else (scores + lambda_ * plain) / (1 + lambda_)), gradient


@pytest.mark.parametrize("margin", MARGINS)
def test_angular_margin(margin: str) -> None:
    x, weight = distinct((6, 3), 1).requires_grad_(), distinct((4, 3), 2)
    labels = labelled(6, 4)
    text = (
        f"margin_inner_product_param {{ num_output: 4 type: {margin} base: 8 gamma: 1 power: 2 "
        "iteration: 2 lambda_min: 0.25 }"
    )
    unit = weight.numpy() / np.linalg.norm(weight.numpy(), axis=1, keepdims=True)
    weight.requires_grad_()
    scores, lambda_ = run("MarginInnerProduct", text, x, labels, parameters=[weight], tops=2)
    # The first pass has iteration + 1 = 3.
    assert lambda_.tolist() == [8 * (1 + 3) ** -2]
    along_x, along_weight = gradients(scores.sum(), x, weight)
    expected, gradient = angular(
        x.detach().numpy(), unit, labels.int().tolist(), MARGINS[margin], 0.5
    )
    np.testing.assert_allclose(scores.detach(), expected, atol=1e-9)
    np.testing.assert_allclose(along_x, gradient, atol=1e-5)
    np.testing.assert_allclose(along_weight, np.tile(x.detach().numpy().sum(0), (4, 1)))
    np.testing.assert_allclose(weight.detach(), unit)


def test_lambda_falls_with_each_pass() -> None:
    text = (
        "margin_inner_product_param { num_output: 2 type: DOUBLE base: 10 gamma: 1 power: 1 "
        "lambda_min: 3 }"
    )
    layer = made("MarginInnerProduct", text, (2, 3), (2,), tops=2)
    x, labels, weight = distinct((2, 3)), labelled(2, 2), distinct((2, 3), 1)
    found = []
    for number in range(4):
        layer.noise.position.fill_(number)
        found.append(float(call(layer, [x, labels], [weight])[1]))
    assert found == pytest.approx([5, 10 / 3, 3, 3])


@pytest.mark.parametrize("margin", MARGINS)
def test_large_margin(margin: str) -> None:
    x, weight, labels = distinct((6, 3), 1), distinct((4, 3), 2), labelled(6, 4)
    text = (
        f"largemargin_inner_product_param {{ num_output: 4 type: {margin} base: 1 gamma: 0 power: "
        "1 lambda_min: 0 }"
    )
    (scores,) = run("LargeMarginInnerProduct", text, x, labels, parameters=[weight])
    a, w = x.numpy(), weight.numpy()
    expected = a @ w.T
    for n, label in enumerate(labels.int().tolist()):
        if MARGINS[margin] > 1:
            size = np.linalg.norm(a[n]) * np.linalg.norm(w[label])
            own = size * falling(expected[n, label] / size, MARGINS[margin])
            expected[n, label] = (own + expected[n, label]) / 2
    np.testing.assert_allclose(scores, expected, atol=1e-7)
    (given,) = run("LargeMarginInnerProduct", text, x, labels, weight)
    torch.testing.assert_close(given, scores)


def test_additive_margin() -> None:
    x = torch.tensor([[0.9, 0.2], [0.1, 0.3]], requires_grad=True)
    labels = torch.tensor([0.0, 0.0])
    text = "label_specific_add_param { bias: -0.35 }"
    y, bias = run("LabelSpecificAdd", text, x, labels, tops=2)
    # 0.1 is not above 0.35 and stays.
    torch.testing.assert_close(y, torch.tensor([[0.55, 0.2], [0.1, 0.3]]))
    assert bias.tolist() == pytest.approx([-0.35])
    assert gradients(y.sum(), x)[0].tolist() == [[1, 1], [1, 1]]
    (tested,) = run("LabelSpecificAdd", text, x, labels, phase="TEST")
    assert torch.equal(tested, x)
    changing = (
        "label_specific_add_param { bias_base: -0.1 bias_gamma: 1 bias_power: -1 bias_min: -0.5 "
        "bias_max: 0 }"
    )
    layer = made("LabelSpecificAdd", changing, (2, 2), (2,), tops=2)
    found = []
    for number in range(3):
        layer.noise.position.fill_(number)
        found.append(float(call(layer, [x, labels], [])[1]))
    assert found == pytest.approx([-0.1, -0.5, -0.5])


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("by_label", [False, True])
def test_distances(kind: str, by_label: bool) -> None:
    x, weight = distinct((4, 3), 1).requires_grad_(), distinct((2, 3), 2).requires_grad_()
    labels = labelled(4, 2)
    text = (
        f"inner_distance_param {{ num_output: 2 distance_type: '{kind}' "
        f"update_center_only: {str(by_label).lower()} }}"
    )
    more = (labels,) if by_label else ()
    (y,) = run("InnerDistance", text, x, *more, parameters=[weight])
    top = distinct((4, 2), 3)
    along_x, along_weight = gradients((y * top).sum(), x, weight)
    a, w = x.detach().numpy(), weight.detach().numpy()
    expected, on_x, on_w = np.zeros((4, 2)), np.zeros((4, 3)), np.zeros((2, 3))
    for m, n, k in np.ndindex(4, 2, 3):
        d = a[m, k] - w[n, k]
        expected[m, n] += abs(d) if kind == "L1" else d * d
        step = float(top[m, n]) * (np.sign(d) if kind == "L1" else 2 * d)
        on_x[m, k] += step
        if not by_label or int(labels[m]) == n:
            on_w[n, k] -= step
    np.testing.assert_allclose(y.detach(), expected, atol=1e-12)
    np.testing.assert_allclose(along_x, on_x, atol=1e-12)
    np.testing.assert_allclose(along_weight, on_w, atol=1e-12)


def test_distances_to_rows_of_norm_1_and_to_given_centres() -> None:
    x, weight = distinct((2, 3), 1), distinct((4, 3), 2)
    text = "inner_distance_param { num_output: 4 normalize: true }"
    unit = weight / (weight.square().sum(1, keepdim=True) + 1e-6).sqrt()
    (y,) = run("InnerDistance", text, x, parameters=[weight.clone()])
    torch.testing.assert_close(y, (x[:, None] - unit[None]).square().sum(2))
    (given,) = run("InnerDistance", "inner_distance_param { }", x, weight)
    torch.testing.assert_close(given, (x[:, None] - weight[None]).square().sum(2))
    with pytest.raises(LayerError, match="transpose is set"):
        made("InnerDistance", "inner_distance_param { num_output: 2 transpose: true }", (2, 3))


def contrast(d: np.ndarray, labels: list[int], p: dict[str, Any]) -> tuple[float, np.ndarray]:
    """The loss and its gradient, row by row."""
    rows, classes = d.shape
    total, gradient = 0.0, np.zeros_like(d)
    for n, label in enumerate(labels):
        near = min(p["outlier"], max(0.0, d[n, label] - p["m"]))
        total += near * p["w"]
        inside = p["m"] < d[n, label] < p["outlier"]
        if inside or (p["first"] and d[n, label] > p["upper"]):
            gradient[n, label] = p["w"] / rows
        if p["first"] and d[n, label] > p["upper"]:
            continue
        terms = {}
        for j in range(classes):
            if j != label and d[n, j] < p["n"]:
                terms[j] = (math.exp(-d[n, j]) if p["exp"] else p["n"] - d[n, j]) * p["v"]
        if p["hardest"]:
            own = near * p["w"] if label == 0 else -1.0
            best = max(terms.values(), default=0.0)
            terms = {j: t for j, t in terms.items() if t == best and best > own}
        for j, term in terms.items():
            total += term
            gradient[n, j] = -(term if p["exp"] else p["v"]) / rows
    return total / rows, gradient


@pytest.mark.parametrize("exp", [False, True])
@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_contrast_of_classes(exp: bool, hardest: bool, first: bool) -> None:
    d = (distinct((6, 4), 1).abs() * 1.5 + 0.1).requires_grad_()
    labels = labelled(6, 4)
    text = (
        "general_contrastive_loss_param { positive_margin: 0.2 negative_margin: 0.9 "
        "positive_weight: 1.5 negative_weight: 0.5 positive_outlier_thresh: 0.6 "
        f"exp_negative_weight: {str(exp).lower()} max_negative_only: {str(hardest).lower()} "
        f"positive_first: {str(first).lower()} positive_upper_bound: 0.5 }}"
    )
    loss, means = run("GeneralContrastiveLoss", text, d, labels, tops=2)
    (gradient,) = gradients(loss, d)
    settings = {
        "m": 0.2,
        "n": 0.9,
        "w": 1.5,
        "v": 0.5,
        "outlier": 0.6,
        "upper": 0.5,
        "exp": exp,
        "hardest": hardest,
        "first": first,
    }
    values = d.detach().numpy()
    expected, steps = contrast(values, labels.int().tolist(), settings)
    assert math.isclose(float(loss.detach()), expected, rel_tol=1e-6)
    np.testing.assert_allclose(gradient, steps, atol=1e-7)
    own = [values[n, int(label)] for n, label in enumerate(labels)]
    mean = np.mean([min(0.6, max(0, o - 0.2)) for o in own])
    assert math.isclose(float(means.detach()[0]), mean, rel_tol=1e-6)


def test_bound_of_the_negative_gradients() -> None:
    d, labels = torch.full((2, 3), 0.5, dtype=torch.float64).requires_grad_(), labelled(2, 3)
    text = (
        "general_contrastive_loss_param { negative_margin: 1 negative_weight: 4 "
        "positive_weight: 1 normalize_negative: 2 }"
    )
    (loss,) = run("GeneralContrastiveLoss", text, d, labels)
    (gradient,) = gradients(loss, d)
    # The four negative gradients of 4 add up to 16; 16 / 2 / 2 rows is 4, above 1.
    for n, label in enumerate(labels.int().tolist()):
        expected = [-4 / 4 / 2] * 3
        expected[label] = 1 / 2
        assert gradient[n].tolist() == expected


def test_triplets() -> None:
    a, p, n = (distinct((3, 2), seed).requires_grad_() for seed in (1, 2, 3))
    (loss,) = run("TripletLoss", "triplet_loss_param { margin: 0.05 }", a, p, n)
    total = 0.0
    for row in range(3):
        near = float((a[row] - p[row]).square().sum().detach())
        far = float((a[row] - n[row]).square().sum().detach())
        total += max(0, 0.05 + near - far)
    assert math.isclose(float(loss.detach()), total / 6, rel_tol=1e-6)


def test_codes_of_deepbit() -> None:
    second = distinct((4, 3), 2).requires_grad_()
    values = distinct((4, 3), 1).numpy() * 3
    x = torch.tensor(values, requires_grad=True)
    bits = (values > 0.5).astype(float)
    (even,) = run("EvenDistLoss", "", x, second)
    shares = bits.mean(0)
    assert math.isclose(float(even.detach()), ((shares - 0.5) ** 2).sum() / 4 / 2)
    first, other = gradients(even, x, second)
    step = (shares - 0.5).sum() / 12 / 4
    np.testing.assert_allclose(first, np.full((4, 3), step))
    np.testing.assert_allclose(other, np.full((4, 3), -step))
    (quantized,) = run("MinQuantizeLoss", "", x, second)
    assert math.isclose(float(quantized.detach()), ((bits - values) ** 2).sum() / 4 / 2)
    step = -((bits - values) * values).sum() / 12 / 4
    np.testing.assert_allclose(gradients(quantized, x, second)[0], np.full((4, 3), step))
    v, w = torch.tensor([1.0, 0, 2, 1]).double(), torch.tensor([1.0, 1, 0.5, 3]).double()
    (turned,) = run("TransformLoss", "", x, second, v, w)
    difference = (x - second).detach().numpy()
    expected = sum(float(v[n] * w[n]) * (difference[n] ** 2).sum() for n in range(4)) / 8
    assert math.isclose(float(turned.detach()), expected)
    np.testing.assert_allclose(gradients(turned, x, second)[1], -difference / 4)


def test_small_layers() -> None:
    x = distinct((2, 3, 4, 5), 1)
    (y,) = run("SoftTruncation", "soft_truncation_param { c: 4 }", x)
    torch.testing.assert_close(y, 1 - torch.exp(-x / 4))
    (y,) = run("Flip", "", x)
    np.testing.assert_array_equal(y, x.numpy()[:, :, :, ::-1])
    (y,) = run("Flip", "flip_param { flip_width: false flip_height: true }", x)
    np.testing.assert_array_equal(y, x.numpy()[:, :, ::-1])


def test_channel_scale_and_its_gradients() -> None:
    x, factors = distinct((2, 3, 2, 2), 1).requires_grad_(), distinct((2, 1, 2, 2), 2)
    factors.requires_grad_()
    diff = distinct((2, 3, 2, 2), 3)
    for feature, scale in ((True, True), (False, True), (True, False)):
        text = (
            f"channel_scale_param {{ do_backward_feature: {str(feature).lower()} "
            f"do_backward_scale: {str(scale).lower()} }}"
        )
        (y,) = run("ChannelScale", text, x, factors)
        torch.testing.assert_close(y, x * factors)
        along_x, along_factors = gradients((y * diff).sum(), x, factors)
        expected = diff * factors if feature else diff
        np.testing.assert_allclose(along_x, expected.detach().numpy())
        sums = (x * diff).sum(1, keepdim=True) * scale
        np.testing.assert_allclose(along_factors, sums.detach().numpy())
    (y,) = run("ChannelScale", "channel_scale_param { do_forward: false }", x, factors)
    torch.testing.assert_close(y, x)


def test_the_global_scale_follows_the_mean_factor() -> None:
    x, factors = distinct((2, 3), 1), torch.tensor([2.0, 4.0], dtype=torch.float64)
    scale = torch.tensor([-1.0], dtype=torch.float64)
    text = "channel_scale_param { global_scale: true max_global_scale: 3.5 }"
    y, used = run("ChannelScale", text, x, factors, tops=2, parameters=[scale], phase="TRAIN")
    torch.testing.assert_close(y, 3 * x)
    assert float(used) == 3
    run("ChannelScale", text, x, 11 * factors, tops=2, parameters=[scale], phase="TRAIN")
    assert math.isclose(float(scale), 3 * 0.99 + 0.33)
    run("ChannelScale", text, x, 90 * factors, tops=2, parameters=[scale], phase="TRAIN")
    assert float(scale) == 3.5
    y, _ = run("ChannelScale", text, x, factors, tops=2, parameters=[scale], phase="TEST")
    torch.testing.assert_close(y, 3.5 * x)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
def test_general_triplet_loss(center: bool, hardest: bool, bounded: bool) -> None:
    d = torch.tensor(
        [[0.5, 0.6, 2.0, 0.4], [1.5, 0.2, 1.6, 1.1], [3.0, 3.1, 0.1, 2.0]], dtype=torch.float64
    ).requires_grad_()
    labels = torch.tensor([0.0, 3.0, 2.0], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    text = f"""general_triplet_loss_param {{ margin: 0.5 add_center_loss: {str(center).lower()}
        hardest_only: {str(hardest).lower()} positive_first: {str(bounded).lower()}
        positive_upper_bound: 1 positive_weight: 3 negative_weight: 2 }}"""
    loss, means = run("GeneralTripletLoss", text, d, labels, weights, tops=2)
    total, gradient = 0.0, torch.zeros(3, 4, dtype=torch.float64)
    for i, own in enumerate([0, 3, 2]):
        row = d[i].tolist()
        terms = {j: 2 * (row[own] + 0.5 - row[j]) for j in range(4) if j != own}
        terms = {j: term for j, term in terms.items() if term > 0}
        if hardest and terms:
            terms = dict([max(terms.items(), key=lambda item: item[1])])
        far = bounded and row[own] > 1
        if far:
            terms = {}
        total += sum(terms.values())
        for j in terms:
            gradient[i, j] = -2
        if far or center or terms:
            gradient[i, own] = 3
    assert loss.item() == pytest.approx(total / 3)
    loss.backward()
    assert d.grad is not None
    torch.testing.assert_close(d.grad, gradient * weights[:, None] / 3)
    others = float(d.detach().sum()) - (0.5 + 1.1 + 0.1)
    assert means.tolist() == pytest.approx([1.7 / 3, others / 9])
