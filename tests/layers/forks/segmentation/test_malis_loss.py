"""MalisLoss against Kruskal's algorithm over single edges and pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat.errors import LayerError
from tests.layers.messages import made, run

Voxel = tuple[int, ...]


def term(
    affinities: np.ndarray, offsets: Sequence[Voxel], labels: np.ndarray, positive: bool
) -> tuple[float, np.ndarray]:
    """A term of the loss and its gradient, counting every pair of voxels."""
    edges = []
    for e, offset in enumerate(offsets):
        for voxel in np.ndindex(*labels.shape):
            other = tuple(int(a + b) for a, b in zip(voxel, offset, strict=True))
            if all(0 <= a < b for a, b in zip(other, labels.shape, strict=True)):
                edges.append(((e, *voxel), voxel, other))
    edges.sort(key=lambda edge: -affinities[edge[0]])
    groups = {voxel: {voxel} for voxel in np.ndindex(*labels.shape)}
    gradient, loss = np.zeros_like(affinities), 0.0
    voxels = [voxel for voxel in groups if labels[voxel]]
    kinds = [labels[a] == labels[b] for i, a in enumerate(voxels) for b in voxels[:i]]
    every = kinds.count(positive)
    for place, first, second in edges:
        one, two = groups[first], groups[second]
        if one is two:
            continue
        joined = sum(
            1
            for a in one
            for b in two
            if labels[a] and labels[b] and (labels[a] == labels[b]) == positive
        )
        if every:
            off = affinities[place] - (1 if positive else 0)
            loss += off**2 * joined / every
            gradient[place] = off * joined / every
        for voxel in one | two:
            groups[voxel] = one | two
        union = one | two
        for voxel in union:
            groups[voxel] = union
    return loss, gradient


def expected(
    x: np.ndarray, target: np.ndarray, objects: np.ndarray, offsets: Sequence[Voxel]
) -> tuple[float, np.ndarray]:
    loss, gradient = 0.0, np.zeros_like(x)
    for n in range(len(x)):
        for positive, bound in ((False, np.maximum), (True, np.minimum)):
            labels = objects[n, min(int(positive), objects.shape[1] - 1)]
            value, part = term(bound(x[n], target[n]), offsets, labels, positive)
            loss += value / 2 / len(x)
            gradient[n] += part / 2 / len(x)
    return loss, gradient


def some(shape: Sequence[int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 2])
def test_against_pairs(channels: int) -> None:
    offsets = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2, -1)]
    x = some((2, 4, 2, 3, 4), 1).requires_grad_(True)
    # Targets that leave most affinities as they are, so that no two are equal.
    target = torch.where(some(x.shape, 2) < 0.5, 0.9 * x.detach(), 0.1 + 0.9 * x.detach())
    objects = (some((2, channels, 2, 3, 4), 3) * 4).floor()
    given = torch.tensor(offsets, dtype=torch.float64).reshape(1, 1, 4, 3)
    loss, again = run("MalisLoss", "", x, target, objects, given, tops=2)
    value, gradient = expected(x.detach().numpy(), target.numpy(), objects.numpy(), offsets)
    assert loss.item() == pytest.approx(value)
    assert torch.equal(again, x)
    (3 * loss).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 3 * gradient, atol=1e-12)


def test_images_and_edges_without_offsets() -> None:
    x = some((1, 2, 3, 4), 4).requires_grad_(True)
    target = some(x.shape, 5)
    objects = torch.ones(1, 1, 3, 4, dtype=torch.float64)
    (loss,) = run("MalisLoss", "", x, target, objects)
    volume = [one.detach().numpy()[:, :, None] for one in (x, target, objects)]
    value, gradient = expected(volume[0], volume[1], volume[2], [(0, 1, 0), (0, 0, 1)])
    assert loss.item() == pytest.approx(value)
    loss.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy()[:, :, None], gradient, atol=1e-12)


def test_nothing_labelled_costs_nothing() -> None:
    x = some((1, 3, 2, 2, 2), 6)
    (loss,) = run("MalisLoss", "", x, x, torch.zeros(1, 1, 2, 2, 2, dtype=torch.float64))
    assert loss.item() == 0


def test_refused() -> None:
    with pytest.raises(LayerError, match="4 edges of a voxel need a fourth bottom"):
        made("MalisLoss", "", (1, 4, 2, 2, 2), (1, 4, 2, 2, 2), (1, 1, 2, 2, 2))
    x, objects = torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)
    with pytest.raises(LayerError, match="one or two objects"):
        run("MalisLoss", "", x, x, objects.expand(1, 3, 2, 2, 2))
    with pytest.raises(LayerError, match="three numbers for each of 3 edges"):
        run("MalisLoss", "", x, x, objects, torch.zeros(2, 3))
