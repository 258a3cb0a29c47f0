"""A pool that reuses the memory of arrays that are no longer referenced."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MAX_BLOCKS = 16

Allocate: TypeAlias = Callable[[int, np.dtype[Any]], NDArray[Any]]


class BufferPool:
    """Allocates arrays and reuses them when all references to them are gone.

    The kernel provides fresh memory page by page, which takes about as long as filling it, and
    longer with several threads. Not safe for several threads.

    Args:
        allocate: makes a new array of a size and a type.
    """

    def __init__(self, allocate: Allocate = np.empty) -> None:
        self._blocks: list[NDArray[Any]] = []
        self._allocate = allocate

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """An array with undefined content, which belongs to the caller while any view exists."""
        size, dtype = math.prod(shape), np.dtype(dtype)
        for index in range(len(self._blocks)):
            matches = self._blocks[index].size == size and self._blocks[index].dtype == dtype
            if matches and _references(self._blocks, index) == _UNUSED:
                return self._blocks[index].reshape(shape)
        block = self._allocate(size, dtype)
        similar = [other for other in self._blocks if (other.size, other.dtype) == (size, dtype)]
        self._blocks = [*similar[1 - _MAX_BLOCKS :], block]
        return block.reshape(shape)


def _references(blocks: list[NDArray[Any]], index: int) -> int:
    return sys.getrefcount(blocks[index])


# The reference count of an array that only a list refers to; each view of it adds one.
_UNUSED = _references([np.empty(0, np.float32)], 0)
