"""The CRF of CRF-RNN: its lattice against one that goes point by point."""

from __future__ import annotations

from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch

from caffecompat.errors import LayerError
from caffecompat.layers.forks.segmentation.crf._permutohedral import PermutohedralLattice
from tests.layers.messages import distinct, made
from tests.layers.single import call

Key = tuple[int, ...]


class SlowLattice:
    """Adams, Baek and Davis (2010), one point and one vertex at a time."""

    def __init__(self, features: np.ndarray) -> None:
        self.d = features.shape[1]
        self.corners = [self._corners(point) for point in features]
        self.keys = sorted({key for corners in self.corners for key, _ in corners})

    def _corners(self, point: np.ndarray) -> list[tuple[Key, float]]:
        d = self.d
        scaled = [
            float(point[i]) * sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2)) for i in range(d)
        ]
        elevated = [sum(scaled)] + [sum(scaled[j:]) - j * scaled[j - 1] for j in range(1, d + 1)]
        base = [round(e / (d + 1)) * (d + 1) for e in elevated]
        order = sorted(range(d + 1), key=lambda i: (-(elevated[i] - base[i]), i))
        rank = {i: position for position, i in enumerate(order)}
        excess = sum(base) // (d + 1)
        for i in range(d + 1):
            rank[i] += excess
            if rank[i] < 0:
                rank[i] += d + 1
                base[i] += d + 1
            elif rank[i] > d:
                rank[i] -= d + 1
                base[i] -= d + 1
        difference = [(elevated[i] - base[i]) / (d + 1) for i in range(d + 1)]
        by_rank = sorted(range(d + 1), key=lambda i: rank[i])
        corners = []
        for k in range(d + 1):
            # The weights of a simplex: differences of neighbouring coordinates in sorted order.
            if k == 0:
                weight = 1 - difference[by_rank[0]] + difference[by_rank[d]]
            else:
                weight = difference[by_rank[d - k]] - difference[by_rank[d - k + 1]]
            key = tuple(base[i] + (k if rank[i] <= d - k else k - (d + 1)) for i in range(d + 1))
            assert sum(key) == 0
            corners.append((key, weight))
        assert sum(weight for _, weight in corners) == pytest.approx(1)
        return corners

    def filter(self, values: np.ndarray) -> np.ndarray:
        lattice = dict.fromkeys(self.keys, 0.0)
        for corners, value in zip(self.corners, values, strict=True):
            for key, weight in corners:
                lattice[key] += weight * value
        for j in range(self.d + 1):
            step = [1] * (self.d + 1)
            step[j] = -self.d

            def beside(key: Key, sign: int, step: list[int] = step) -> Key:
                return tuple(a + sign * b for a, b in zip(key, step, strict=True))

            lattice = {
                key: value
                + 0.5 * (lattice.get(beside(key, 1), 0.0) + lattice.get(beside(key, -1), 0.0))
                for key, value in lattice.items()
            }
        return np.array(
            [
                sum(weight * lattice[key] for key, weight in corners) / (1 + 2.0**-self.d)
                for corners in self.corners
            ]
        )


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_lattice(dimensions: int) -> None:
    features = np.random.RandomState(dimensions).uniform(-2, 2, (40, dimensions))
    values = np.random.RandomState(9).standard_normal((2, 40))
    lattice = PermutohedralLattice(torch.from_numpy(features).float())
    found = lattice.filter(torch.from_numpy(values))
    slow = SlowLattice(features.astype(np.float32))
    for channel, row in enumerate(values):
        np.testing.assert_allclose(found[channel], slow.filter(row), atol=1e-4)


def test_lattice_is_nearly_a_gaussian() -> None:
    """With as many points as a plane has, the normalised filter is a Gaussian of deviation 1."""
    grid = torch.tensor(list(product(range(-24, 25), repeat=2))).float() / 4
    lattice = PermutohedralLattice(grid)
    delta = torch.zeros(1, len(grid)).double()
    delta[0, len(grid) // 2] = 1
    found = lattice.filter(delta)[0]
    wanted = torch.exp(-(grid.double() ** 2).sum(1) / 2)
    found = found / found.sum()
    assert (found - wanted / wanted.sum()).abs().max() < 0.15 * found.max()


def test_the_filter_is_differentiable_in_its_values() -> None:
    lattice = PermutohedralLattice(
        torch.rand(12, 2, generator=torch.Generator().manual_seed(1)) * 3
    )
    values = distinct((2, 12)).requires_grad_()
    assert torch.autograd.gradcheck(lattice.filter, (values,))


TEXT = """multi_stage_meanfield_param { num_iterations: 3
  theta_alpha: 2 theta_beta: 4 theta_gamma: 1.5
  spatial_filter_weight: 3 bilateral_filter_weight: 5 compatibility_mode: POTTS threshold: 2 }"""


def test_three_steps_of_inference() -> None:
    n, c, h, w = 2, 3, 4, 5
    unary, first = distinct((n, c, h, w)), distinct((n, c, h, w), 1)
    image = distinct((n, 3, h, w), 2) * 20
    layer = made("MultiStageMeanfield", TEXT, unary.shape, first.shape, image.shape)
    shapes = [spec.shape for spec in layer.specs]
    assert shapes == [(1, 1, c, c)] * 3
    starts = [np.asarray(spec.values)[0, 0] for spec in layer.specs]
    for start, number in zip(starts, (3, 5, -1), strict=True):
        np.testing.assert_array_equal(start, number * np.eye(c))
    weights = [distinct((1, 1, c, c), seed) for seed in (3, 4, 5)]
    (top,) = call(layer, (unary, first, image), weights)
    w_s, w_b, mu = (p.numpy()[0, 0] for p in weights)
    places = np.array([(x, y) for y in range(h) for x in range(w)], float)
    for i in range(n):
        colours = image[i].numpy().reshape(3, -1).T
        filters = [
            SlowLattice((places / np.float32(1.5)).astype(np.float32)),
            SlowLattice(np.hstack((places / 2, colours.astype(np.float32) / 4)).astype(np.float32)),
        ]
        scores = first[i].numpy().reshape(c, -1)
        for _ in range(3):
            q = np.exp(scores) / np.exp(scores).sum(0)
            parts = [
                np.stack([lattice.filter(row) for row in q]) / lattice.filter(np.ones(h * w))
                for lattice in filters
            ]
            scores = unary[i].numpy().reshape(c, -1) - mu @ (w_s @ parts[0] + w_b @ parts[1])
        np.testing.assert_allclose(top[i].reshape(c, -1), scores, atol=1e-3)


def test_gradients_of_inference() -> None:
    shapes = ((1, 2, 3, 3), (1, 2, 3, 3), (1, 3, 3, 3))
    image = distinct(shapes[2], 2) * 20
    layer = made("MULTI_STAGE_MEANFIELD", TEXT, *shapes)
    weights = [distinct((1, 1, 2, 2), seed).requires_grad_() for seed in (3, 4, 5)]
    given = (distinct(shapes[0]).requires_grad_(), distinct(shapes[1], 1).requires_grad_())

    def top(*values: torch.Tensor) -> torch.Tensor:
        return call(layer, (*values[:2], image), values[2:])[0]

    assert torch.autograd.gradcheck(top, (*given, *weights))


def test_an_image_of_another_size_is_refused() -> None:
    shapes = ((1, 2, 4, 5), (1, 2, 4, 5), (1, 3, 8, 5))
    layer = made("MultiStageMeanfield", TEXT, *shapes)
    bottoms = [torch.empty(shape, device="meta") for shape in shapes]
    with pytest.raises(LayerError, match="takes scores in the same shape and an image 1x3x4x5"):
        layer.infer(*bottoms)
