"""Blobs by name: the values of a net's last pass and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch

from caffecompat.errors import BlobError, NetError, suggestion
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.net.blobs.array_view import BlobData, plain_tensor, with_write_hook
from caffecompat.net.blobs.backward import backward_from
from caffecompat.net.blobs.values import BlobValues
from caffecompat.reporting.units import format_shape

Value = TypeVar("Value")


class Blob:
    """A named blob of a net.

    With in-place layers a blob has several values; as in Caffe, ``data`` is the value after the
    last in-place layer and ``diff`` the gradient with respect to the value before the first.
    """

    def __init__(self, values: BlobValues, name: str, first: Version, last: Version) -> None:
        self._values = values
        self._first = first
        self._last = last
        self.name = name

    @property
    def data(self) -> BlobData:
        """The value of the last pass, without its gradient graph; zeros before the first pass.

        numpy can read it, and ``data[...] = array`` writes to it. The next pass uses written
        inputs, ``forward(start=...)`` other written blobs too.
        """
        stored = self._values.stored_input(self._last)
        value = self._values.of(self._last) if stored is None else stored
        return value.detach().as_subclass(BlobData)

    @property
    def tensor(self) -> torch.Tensor:
        """The value of the last pass in its gradient graph, for additional losses."""
        return self._values.of(self._last)

    @property
    def diff(self) -> BlobData:
        """The gradient of the last backward pass; zeros if the blob has none.

        The next ``backward()`` starts from written values, if the blob is an output of the net or
        a top of the layer ``start`` of ``backward(start=...)``.
        """
        value = self._values.of(self._first)
        if value.grad is not None:
            diff = value.grad
        else:
            written = self._values.written_diff(self.name)
            last = self._values.of(self._last)
            diff = torch.zeros_like(last) if written is None else written
        diff = diff.detach()
        return with_write_hook(diff, lambda: self._values.write_diff(self.name, plain_tensor(diff)))

    @property
    def shape(self) -> Shape:
        """The shape of :attr:`data`, which need not be made for it."""
        stored = self._values.stored_input(self._last)
        return self._values.shape(self._last) if stored is None else tuple(stored.shape)

    def reshape(self, *shape: int) -> None:
        """Resizes an input blob and sets it to zero; the next pass resizes the other blobs.

        Raises:
            BlobError: the blob is not an input.
        """
        self._values.resize_input(self.name, shape)

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, shape={self.shape})"


class NamedMapping(Mapping[str, Value]):
    """A mapping by name, whose error for an unknown name suggests the nearest known one."""

    def __init__(self, kind: str, names: list[str], make: Callable[[str], Value]) -> None:
        self._kind = kind
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> Value:
        if name not in self._names:
            raise BlobError(f"no {self._kind} {name!r} in this net{suggestion(name, self._names)}")
        return self._make(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class BackwardRoots:
    """The root tensors of a backward pass, with their gradients."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []
        self._gradients: list[torch.Tensor | None] = []

    def __bool__(self) -> bool:
        return bool(self._tensors)

    def add(self, value: torch.Tensor, gradient: torch.Tensor | None) -> None:
        """Adds a tensor, if it requires a gradient; ``gradient`` None is that of a loss, 1."""
        if value.requires_grad:
            self._tensors.append(value)
            self._gradients.append(gradient)

    def add_blob(self, name: str, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Adds the blob ``name``.

        Raises:
            NetError: its gradient has another shape.
        """
        if gradient.shape != value.shape:
            raise NetError(
                f"the gradient of blob {name!r} is {format_shape(gradient.shape)}, the blob is "
                f"{format_shape(value.shape)}"
            )
        self.add(value, gradient)

    def run(self) -> None:
        """Runs autograd from the added tensors.

        Raises:
            NetError: a blob that the backward pass needs was changed after the forward pass.
        """
        if not self._tensors:
            return
        try:
            backward_from(self._tensors, self._gradients)
        except RuntimeError as error:
            if "inplace operation" not in str(error):
                raise
            raise NetError(
                "a blob was written to after the forward pass, and the backward pass needs its "
                "old value; run forward() again before backward()"
            ) from error
