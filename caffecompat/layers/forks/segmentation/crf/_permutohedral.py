"""Gaussian filtering of values at any points of a feature space, on a permutohedral lattice.

Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral lattice" (2010).
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from caffecompat.layers._repeatable_gradients import added_up

if TYPE_CHECKING:
    from torch import Tensor


class PermutohedralLattice:
    """The lattice of N points in d dimensions, whose filter has a standard deviation of 1.

    A value is distributed over the d + 1 vertices of the simplex that its point lies in, blurred
    with the weights 1/2, 1, 1/2 along each of the d + 1 lattice directions, and collected again.
    The filter is linear in the values and differentiable in them, not in the features.

    Args:
        features: (N, d), float32.
    """

    def __init__(self, features: Tensor) -> None:
        import torch

        count, dimensions = features.shape
        self.dimensions = dimensions
        keys, self._weights = _simplices(features)
        vertices, inverse = torch.unique(keys.reshape(-1, dimensions), dim=0, return_inverse=True)
        self._vertices = len(vertices)
        self._of_point = inverse.reshape(count, dimensions + 1)
        self._neighbours = _neighbours(vertices)

    def filter(self, values: Tensor) -> Tensor:
        """The filtered values, not normalised; (C, N) as the result."""
        import torch

        channels, count = values.shape
        weights = self._weights.to(values.dtype)
        spread = (values.t().unsqueeze(1) * weights.unsqueeze(2)).flatten(0, 1)
        # Row 0 stands for vertices that are not there.
        lattice = added_up(spread, self._of_point.flatten() + 1, self._vertices + 1)
        for before, after in self._neighbours:
            blurred = lattice[1:] + 0.5 * (lattice[before] + lattice[after])
            lattice = torch.cat((lattice.new_zeros(1, channels), blurred))
        at_points = lattice[self._of_point.flatten() + 1].unflatten(0, (count, -1))
        alpha = 1 / (1 + 2.0**-self.dimensions)
        return (at_points * weights.unsqueeze(2)).sum(1).t() * alpha


def _simplices(features: Tensor) -> tuple[Tensor, Tensor]:
    """The keys (N, d + 1, d) of each point's simplex, and the vertices' weights (N, d + 1).

    The last coordinate of a key is left out: the coordinates sum to 0.
    """
    import torch

    count, dimensions = features.shape
    plus = dimensions + 1
    elevated = _elevated(features)
    rounded = (elevated / plus).round()
    remainder = rounded * plus
    distance = elevated - remainder
    # The rank of a coordinate is how many differences exceed its own; of equals the first is lower.
    later = torch.ones(plus, plus, dtype=torch.bool, device=features.device).triu(1)
    mine, other = distance.unsqueeze(2), distance.unsqueeze(1)
    above = torch.where(later, mine < other, (mine <= other) & ~later)
    above = above & ~torch.eye(plus, dtype=torch.bool, device=features.device)
    rank = above.sum(2) + rounded.sum(1, keepdim=True).long()
    shift = plus * ((rank < 0).long() - (rank >= plus).long())
    rank, remainder = rank + shift, remainder + shift
    share = (elevated - remainder) / plus
    weights = features.new_zeros(count, plus + 1)
    weights = weights.scatter_add(1, dimensions - rank, share)
    weights = weights.scatter_add(1, plus - rank, -share)
    first = weights[:, :1] + 1 + weights[:, plus:]
    weights = torch.cat((first, weights[:, 1:plus]), 1)
    steps = torch.arange(plus, device=features.device).view(1, plus, 1)
    coordinates = rank[:, None, :dimensions]
    moved = steps - plus * (coordinates > dimensions - steps).long()
    return remainder[:, None, :dimensions].long() + moved, weights


def _elevated(features: Tensor) -> Tensor:
    """The points (N, d) on the plane of d + 1 coordinates with sum 0."""
    import torch

    count, dimensions = features.shape
    deviation = sqrt(2 / 3) * (dimensions + 1)
    factors = [deviation / sqrt((i + 2) * (i + 1)) for i in range(dimensions)]
    scaled = features * features.new_tensor(factors)
    total = features.new_zeros(count)
    columns = []
    for j in range(dimensions, 0, -1):
        columns.append(total - j * scaled[:, j - 1])
        total = total + scaled[:, j - 1]
    return torch.stack([total, *reversed(columns)], 1)


def _neighbours(vertices: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each direction, the two neighbours of each vertex, counted from 1; 0 if not there."""
    import torch

    dimensions = vertices.shape[1]
    low = vertices.amin(0) - dimensions
    extent = vertices.amax(0) + dimensions + 1 - low
    place = torch.cat((extent.new_ones(1), extent.flip(0).cumprod(0)[:-1])).flip(0)
    # Lexicographic order is that of torch.unique, so the codes increase.
    codes = ((vertices - low) * place).sum(1)

    def positions(moved: Tensor) -> Tensor:
        wanted = ((moved - low) * place).sum(1)
        found = torch.searchsorted(codes, wanted).clamp(max=len(codes) - 1)
        return torch.where(codes[found] == wanted, found + 1, 0)

    found = []
    for j in range(dimensions + 1):
        step = vertices.new_ones(dimensions)
        if j < dimensions:
            step[j] = -dimensions
        found.append((positions(vertices - step), positions(vertices + step)))
    return found
