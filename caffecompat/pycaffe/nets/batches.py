"""Passes over more samples than a batch of a net has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol

import numpy as np

from caffecompat.pycaffe.errors import CallError
from caffecompat.pycaffe.nets.mappings import Outputs

Arrays = dict[str, np.ndarray]


class BatchNet(Protocol):
    """The part of a net that this module uses."""

    @property
    def inputs(self) -> list[str]:
        """Names of the input blobs."""
        ...

    @property
    def outputs(self) -> list[str]:
        """Names of the output blobs."""
        ...

    @property
    def blobs(self) -> Mapping[str, Any]:
        """The blobs by name."""
        ...

    def forward(self, blobs: Sequence[str] | None = None, **inputs: Any) -> Arrays:
        """One forward pass."""
        ...

    def backward(self, diffs: Sequence[str] | None = None, **tops: Any) -> Arrays:
        """One backward pass."""
        ...


def batches(net: BatchNet, arrays: Mapping[str, Any]) -> Iterator[Arrays]:
    """Cuts arrays along the first axis into batches of the net; the last is filled with zeros.

    Raises:
        CallError: the arrays have different lengths.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise CallError(f"the arrays have different numbers of samples: {lengths}")
    if not arrays:
        return
    size = net.blobs[next(iter(arrays))].shape[0]
    for start in range(0, next(iter(lengths.values())), size):
        yield {name: _padded(array[start : start + size], size) for name, array in arrays.items()}


def _padded(rows: Any, size: int) -> np.ndarray:
    array = np.asarray(rows)
    if len(array) == size:
        return array
    missing = np.zeros((size - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, missing])


class _Collected:
    """The values of some blobs over all batches."""

    def __init__(self, names: Sequence[str]) -> None:
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def add(self, found: Arrays) -> None:
        for name, parts in self._parts.items():
            parts.append(np.array(np.atleast_1d(found[name])))

    def arrays(self, rows: int, batch: int) -> Arrays:
        """One array per blob; those with a row for each sample without the rows of the padding."""
        found = {name: _joined(parts, rows, batch) for name, parts in self._parts.items() if parts}
        return Outputs(found)


def _joined(parts: list[np.ndarray], rows: int, batch: int) -> np.ndarray:
    joined = np.concatenate(parts)
    return joined[:rows] if len(parts[0]) == batch else joined


def forward_all(net: BatchNet, blobs: Sequence[str], arrays: Mapping[str, Any]) -> Arrays:
    """See :meth:`caffecompat.pycaffe.Net.forward_all`."""
    collected = _Collected(_once([*net.outputs, *blobs]))
    for batch in batches(net, arrays):
        collected.add(net.forward(blobs=blobs, **batch))
    return collected.arrays(*_extent(net, arrays))


def forward_backward_all(
    net: BatchNet, blobs: Sequence[str], diffs: Sequence[str], arrays: Mapping[str, Any]
) -> tuple[Arrays, Arrays]:
    """See :meth:`caffecompat.pycaffe.Net.forward_backward_all`."""
    inputs = {name: value for name, value in arrays.items() if name in net.inputs}
    tops = {name: value for name, value in arrays.items() if name in net.outputs}
    outs = _Collected(_once([*net.outputs, *blobs]))
    gradients = _Collected(_once([*net.inputs, *diffs]))
    none: Arrays = {}
    for forward, backward in zip_longest(batches(net, inputs), batches(net, tops), fillvalue=none):
        outs.add(net.forward(blobs=blobs, **forward))
        gradients.add(net.backward(diffs=diffs, **backward))
    extent = _extent(net, inputs)
    return outs.arrays(*extent), gradients.arrays(*extent)


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _extent(net: BatchNet, arrays: Mapping[str, Any]) -> tuple[int, int]:
    """The number of samples, and the batch size."""
    if not arrays:
        return 0, 0
    name = next(iter(arrays))
    return len(arrays[name]), int(net.blobs[name].shape[0])
