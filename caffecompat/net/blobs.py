"""Blobs by name: the values of a net's last pass and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import torch

from caffecompat.errors import BlobError, suggestion
from caffecompat.graph import Version
from caffecompat.layers import Shape

if TYPE_CHECKING:
    from caffecompat.net.net import Net

Value = TypeVar("Value")


class Blob:
    """A named blob of a net.

    With in-place layers one name stands for several values; as in Caffe ``data`` is the value
    after the last of them and ``diff`` the gradient before the first.
    """

    def __init__(self, net: Net, name: str, first: Version, last: Version) -> None:
        self._net = net
        self._first = first
        self._last = last
        self.name = name

    @property
    def data(self) -> torch.Tensor:
        """The value of the last pass; zeros before the first one. Inputs may be written to."""
        stored = self._net.stored_input(self._last)
        return self._net.value_of(self._last) if stored is None else stored

    @property
    def diff(self) -> torch.Tensor:
        """The gradient of the last backward pass; zeros where none arrived."""
        value = self._net.value_of(self._first)
        return torch.zeros_like(value) if value.grad is None else value.grad

    @property
    def shape(self) -> Shape:
        return tuple(self.data.shape)

    def reshape(self, *shape: int) -> None:
        """Resizes an input blob (its values become zero); layers follow in the next pass.

        Raises:
            NetError: the blob is no input.
        """
        self._net.resize_input(self.name, shape)

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
