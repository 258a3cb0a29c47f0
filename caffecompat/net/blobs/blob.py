"""Blobs by name: the values of a net's last pass and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import torch

from caffecompat.errors import BlobError, NetError, suggestion
from caffecompat.graph import Version
from caffecompat.layers import Shape
from caffecompat.layers._base import format_shape
from caffecompat.net.blobs.array_view import BlobData, to_plain, told_before
from caffecompat.net.blobs.values import BlobValues

Value = TypeVar("Value")


class Blob:
    """A named blob of a net.

    With in-place layers one name stands for several values; as in Caffe ``data`` is the value
    after the last of them and ``diff`` the gradient before the first.
    """

    def __init__(self, values: BlobValues, name: str, first: Version, last: Version) -> None:
        self._values = values
        self._first = first
        self._last = last
        self.name = name

    @property
    def data(self) -> BlobData:
        """The value of the last pass, without its gradient graph; zeros before the first one.

        It may be read by numpy and written to by ``data[...] = array``: inputs keep what is
        written for the next pass, other blobs for ``forward(start=...)``.
        """
        stored = self._values.stored_input(self._last)
        value = self._values.of(self._last) if stored is None else stored
        return value.detach().as_subclass(BlobData)

    @property
    def tensor(self) -> torch.Tensor:
        """The value of the last pass in its gradient graph, for losses of your own."""
        return self._values.of(self._last)

    @property
    def diff(self) -> BlobData:
        """The gradient of the last backward pass; zeros where none arrived.

        What is written here is where the next ``backward()`` begins, if the blob is an output of
        the net, or a top of the layer ``backward(start=...)`` names.
        """
        value = self._values.of(self._first)
        if value.grad is not None:
            diff = value.grad
        else:
            written = self._values.written_diff(self.name)
            last = self._values.of(self._last)
            diff = torch.zeros_like(last) if written is None else written
        diff = diff.detach()
        return told_before(diff, lambda: self._values.write_diff(self.name, to_plain(diff)))

    @property
    def shape(self) -> Shape:
        """The shape of :attr:`data`, which need not be made for it."""
        stored = self._values.stored_input(self._last)
        return self._values.shape(self._last) if stored is None else tuple(stored.shape)

    def reshape(self, *shape: int) -> None:
        """Resizes an input blob (its values become zero); layers follow in the next pass.

        Raises:
            NetError: the blob is no input.
        """
        self._values.resize_input(self.name, shape)

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, shape={self.shape})"


class Named(Mapping[str, Value]):
    """A mapping by name that answers an unknown name with the nearest one."""

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


class Roots:
    """The tensors that a backward pass begins from, with their gradients."""

    def __init__(self) -> None:
        self._tensors: list[torch.Tensor] = []
        self._gradients: list[torch.Tensor | None] = []

    def __bool__(self) -> bool:
        return bool(self._tensors)

    def add(self, value: torch.Tensor, gradient: torch.Tensor | None) -> None:
        """Adds a tensor, if a gradient can go on from it; None is the gradient of a loss, 1."""
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
        """Runs autograd, if there is anything to begin from.

        Raises:
            NetError: blobs that the backward pass needs were written to after the forward pass.
        """
        if not self._tensors:
            return
        try:
            torch.autograd.backward(self._tensors, self._gradients)
        except RuntimeError as error:
            if "inplace operation" not in str(error):
                raise
            raise NetError(
                "a blob was written to after the forward pass, and the backward pass needs its "
                "old value; run forward() again before backward()"
            ) from error
