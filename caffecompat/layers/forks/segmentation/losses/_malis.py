"""Pairs of voxels that a maximum spanning tree of affinities joins, for MalisLoss.

Source: the MALIS loss of Turaga and others (2009), as Caffe Neural's layer counts the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Edges:
    """The edges of a volume (Z, Y, X), of which some lead out of it and are left out.

    Attributes:
        places: (K,) of each edge in the affinities (edges, Z, Y, X), as a flat index.
        first, second: (K,) the voxels that it joins, as flat indices.
        voxels: the number of voxels.
    """

    places: Integers
    first: Integers
    second: Integers
    voxels: int


def edges_of(offsets: Integers, volume: Sequence[int]) -> Edges:
    """The edges of a volume.

    Args:
        offsets: (edges, 3), from a voxel to the other along Z, Y and X.
        volume: the extents Z, Y and X.
    """
    extents = np.array(volume)
    voxels = int(extents.prod())
    numbers = np.arange(voxels, dtype=np.int64)
    at = np.stack(np.unravel_index(numbers, tuple(volume)), 1)
    parts = []
    for edge, offset in enumerate(offsets):
        other = at + offset
        inside = ((other >= 0) & (other < extents)).all(1)
        second = np.ravel_multi_index(tuple(other[inside].T), tuple(volume))
        parts.append((edge * voxels + numbers[inside], numbers[inside], second))
    places, first, second = (
        np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(3)
    )
    return Edges(places, first, second, voxels)


@dataclass(frozen=True)
class Pairs:
    """What the edges of the tree join, strongest edge first.

    Attributes:
        places: (T,) of the edges in the affinities.
        same, other: (T,) how many pairs of voxels of one object, and of two objects, an edge joins
            first; voxels with label 0 belong to none.
        all_same, all_other: how many such pairs there are in the volume.
    """

    places: Integers
    same: Integers
    other: Integers
    all_same: int
    all_other: int


def joined_pairs(affinities: Values, edges: Edges, labels: Integers) -> Pairs:
    """The pairs that the edges of the maximum spanning tree join.

    Of two edges with the same affinity the first in the volume counts as the stronger.

    Args:
        affinities: flat, of all edges.
        labels: (voxels,), the object of each voxel.
    """
    order = np.argsort(-affinities[edges.places], kind="stable")
    first, second = edges.first[order], edges.second[order]
    tree = _spanning_tree(first, second, edges.voxels)
    same, other = _count(first[tree].tolist(), second[tree].tolist(), labels)
    sizes = np.unique(labels[labels != 0], return_counts=True)[1].astype(object)
    whole, of_same = int(sizes.sum()), int((sizes * (sizes - 1)).sum()) // 2
    return Pairs(
        edges.places[order][tree], same, other, of_same, whole * (whole - 1) // 2 - of_same
    )


def _spanning_tree(first: Integers, second: Integers, voxels: int) -> Integers:
    """Rising indices of the edges that Kruskal's algorithm takes, which are sorted (Borůvka)."""
    component = np.arange(voxels)
    left = np.arange(len(first))
    taken = []
    while len(left):
        a, b = component[first[left]], component[second[left]]
        apart = a != b
        left, a, b = left[apart], a[apart], b[apart]
        if not len(left):
            break
        best = np.full(voxels, len(left))
        position = np.arange(len(left))
        np.minimum.at(best, a, position)
        np.minimum.at(best, b, position)
        chosen = np.unique(best[best < len(left)])
        taken.append(left[chosen])
        component = _joined(best, a, b)[component]
    return np.sort(np.concatenate(taken)) if taken else np.zeros(0, np.int64)


def _joined(best: Integers, a: Integers, b: Integers) -> Integers:
    """The component that each becomes part of when it takes its best edge."""
    parent = np.arange(len(best))
    active = best < len(a)
    edge = best[active]
    parent[active] = a[edge] + b[edge] - parent[active]
    # Two that take the same edge point at each other; the smaller becomes the root.
    numbers = np.arange(len(best))
    mutual = (parent[parent] == numbers) & (numbers < parent)
    parent[mutual] = numbers[mutual]
    while True:
        above = parent[parent]
        if (above == parent).all():
            return parent
        parent = above


def _count(
    first: Sequence[int], second: Sequence[int], labels: Integers
) -> tuple[Integers, Integers]:
    """The pairs that each edge joins, of one object and of two, as edges are added in order."""
    parent = list(range(len(labels)))
    held = [{label: 1} if label else {} for label in labels.tolist()]
    total = [len(one) for one in held]
    same, other = [], []

    def root(voxel: int) -> int:
        while parent[voxel] != voxel:
            parent[voxel] = parent[parent[voxel]]
            voxel = parent[voxel]
        return voxel

    for a, b in zip(first, second, strict=True):
        large, small = root(a), root(b)
        if len(held[large]) < len(held[small]):
            large, small = small, large
        counts, added = held[large], held[small]
        equal = sum(count * counts.get(label, 0) for label, count in added.items())
        same.append(equal)
        other.append(total[large] * total[small] - equal)
        for label, count in added.items():
            counts[label] = counts.get(label, 0) + count
        total[large] += total[small]
        held[small] = {}
        parent[small] = large
    return np.array(same, np.int64), np.array(other, np.int64)
