"""Blob: an array of a net and its gradient, as numpy arrays."""

from __future__ import annotations

from math import prod

from caffecompat.errors import NetError
from caffecompat.layers import Shape
from caffecompat.pycaffe.errors import CallError, refuse_copy
from caffecompat.pycaffe.execution.arrays import BlobArray
from caffecompat.pycaffe.execution.blob_memory import Memory
from caffecompat.reporting.units import format_shape

_LEGACY_AXES = 4


class Blob:
    """A blob of a net, or a parameter of a layer.

    ``data`` and ``diff`` are writable float32 arrays in the blob's own memory: they show new values
    after each pass, while the shape does not change, and layers use what is written into them.
    With in-place layers ``data`` has the values after the last of them, ``diff`` the gradient
    before the first.
    """

    __reduce_ex__ = refuse_copy

    def __init__(self, name: str, data: Memory, diff: Memory) -> None:
        self._name = name
        self._data = data
        self._diff = diff

    @property
    def data(self) -> BlobArray:
        """The values."""
        return self._data.array()

    @property
    def diff(self) -> BlobArray:
        """The gradient; for a parameter after a step of a solver, its update."""
        self._diff.resize(self._data.shape)
        return self._diff.array()

    @property
    def shape(self) -> Shape:
        return self._data.shape

    def reshape(self, *shape: int) -> None:
        """Changes the shape; ``net.reshape()`` or the next pass changes those of the other blobs.

        A smaller blob keeps its first values, a larger one is cleared.

        Raises:
            CallError: an extent is negative.
        """
        if any(extent < 0 for extent in shape):
            raise CallError(f"{self._name}: cannot be reshaped to {shape}; extents are at least 0")
        self._data.resize(shape)
        self._diff.resize(shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def num(self) -> int:
        """The extent of the first of four axes; like the next three, 1 if there is no such axis."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        return self._legacy(1)

    @property
    def height(self) -> int:
        return self._legacy(2)

    @property
    def width(self) -> int:
        return self._legacy(3)

    def _legacy(self, axis: int) -> int:
        shape = self.shape
        if len(shape) > _LEGACY_AXES:
            raise NetError(
                f"{self._name} is {format_shape(shape)}; num, channels, height and width exist for "
                "at most four axes, use shape"
            )
        return shape[axis] if axis < len(shape) else 1

    def __repr__(self) -> str:
        return f"<{self._name}, {format_shape(self.shape)}>"


class BlobVec(list[Blob]):
    """The parameters of a layer."""
