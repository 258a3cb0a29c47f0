"""Memory that stays bound to a model between passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

# Copies of small outputs are made ahead, up to so many bytes and so many.
_BYTES_AHEAD, _MOST_AHEAD = 1 << 16, 16


class BoundInputs:
    """Binds inputs where they lie, again only when they lie elsewhere than in the pass before.

    Args:
        bind: lets passes read the input with an index in a tensor's memory.
        count: how many inputs there are.
    """

    def __init__(self, bind: Callable[[int, torch.Tensor], None], count: int) -> None:
        self._bind = bind
        self._addresses: list[int | None] = [None] * count
        # Keeps the memory that is bound.
        self._bound: list[torch.Tensor | None] = [None] * count

    def bind(self, feeds: Sequence[torch.Tensor]) -> None:
        """Binds those that have moved. Sizes are those of the passes before."""
        for index, feed in enumerate(feeds):
            if feed.data_ptr() != self._addresses[index]:
                self._addresses[index] = None
                self._bind(index, feed)
                self._addresses[index], self._bound[index] = feed.data_ptr(), feed


class BoundOutputs:
    """Memory for the outputs of passes, each of which writes over those of the one before.

    Args:
        shapes: of the outputs.

    Attributes:
        tensors: the memory, in single precision.
    """

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        with torch.inference_mode(False):
            self.tensors = [torch.empty(tuple(shape)) for shape in shapes]
        self._arrays = [tensor.numpy() for tensor in self.tensors]
        self._bytes = [_bytes_of(array) for array in self._arrays]
        size = max(1, sum(map(len, self._bytes)))
        self._count = max(1, min(_MOST_AHEAD, _BYTES_AHEAD // size))
        self._ahead: list[list[tuple[torch.Tensor, memoryview]]] = []

    def copies(self) -> list[torch.Tensor]:
        """The outputs of the last pass in memory of the caller.

        After a pass a call of torch or numpy takes tens of microseconds, since its code is no
        longer in the caches; of several calls in a row only the first does.
        """
        if not self._ahead:
            self._ahead = [list(map(_empty, self._arrays)) for _ in range(self._count)]
        copies = self._ahead.pop()
        for (_, memory), source in zip(copies, self._bytes, strict=True):
            memory[:] = source
        return [tensor for tensor, _ in copies]


def _empty(array: np.ndarray) -> tuple[torch.Tensor, memoryview]:
    """A tensor of the same shape, and its bytes."""
    made = np.empty_like(array)
    with torch.inference_mode(False):
        tensor = torch.from_numpy(made)
    return tensor, _bytes_of(made)


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
