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
        allocate: makes a new array of a size and a type, whose memory is all its own; it may be a
            view of an array that nobody else refers to.
    """

    def __init__(self, allocate: Allocate = np.empty) -> None:
        self._blocks: list[NDArray[Any]] = []
        self._allocate = allocate

    def array(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """An array with undefined content, which belongs to the caller while any view exists."""
        count, dtype = math.prod(shape), np.dtype(dtype)
        size = count * dtype.itemsize
        for index in range(len(self._blocks)):
            if self._blocks[index].nbytes == size and _references(self._blocks, index) == _UNUSED:
                return self._blocks[index].view(dtype).reshape(shape)
        block = _referred_to(self._allocate(count, dtype))
        similar = [other for other in self._blocks if other.nbytes == size]
        self._blocks = [*similar[1 - _MAX_BLOCKS :], block]
        return block.view(dtype).reshape(shape)


def _referred_to(array: NDArray[Any]) -> NDArray[Any]:
    """The array that views of ``array`` refer to.

    If ``array`` is a view itself, as page-locked memory is, numpy lets its views refer to the
    array at the end of the chain, and its own reference count says nothing about them.
    """
    base = array[:].base
    assert base is not None
    return base


def _references(blocks: list[NDArray[Any]], index: int) -> int:
    return sys.getrefcount(blocks[index])


# The reference count of an array that only a list refers to; each view of it adds one.
_UNUSED = _references([np.empty(0, np.float32)], 0)
