"""Memory that stays bound to a model between passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


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
        self.tensors = [torch.empty(tuple(shape)) for shape in shapes]
        self._arrays = [tensor.numpy() for tensor in self.tensors]

    def copies(self) -> list[torch.Tensor]:
        """The outputs of the last pass in memory of the caller."""
        # By numpy, whose copies take less than torch's when the caches are full of other numbers.
        return [torch.from_numpy(array.copy()) for array in self._arrays]
