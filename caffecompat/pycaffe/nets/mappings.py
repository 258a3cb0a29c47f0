"""Dictionaries with the methods that those of Python 2 have, for the names of a net.

Scripts for Python 2 write ``net.blobs.iteritems()``, ``net.params.has_key("fc8")`` and
``net.forward().keys()[0]``. What Python 3 has is unchanged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any, TypeVar

Value = TypeVar("Value")


class _Places:
    """Elements by place, and the text of a view."""

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]  # type: ignore[call-overload]

    def __reversed__(self) -> Iterator[Any]:
        return reversed(list(self))  # type: ignore[call-overload]

    def __repr__(self) -> str:
        return repr(list(self))  # type: ignore[call-overload]


class Keys(_Places, KeysView[str]):
    """The keys, also by place."""


class Values(_Places, ValuesView[Value]):
    """The values, also by place."""


class Items(_Places, ItemsView[str, Value]):
    """Pairs of keys and values, also by place."""


class _Python2Methods:
    """The methods; they work on what a dictionary inherits."""

    def keys(self) -> Any:
        return Keys(self)  # type: ignore[arg-type]

    def values(self) -> Any:
        return Values(self)  # type: ignore[arg-type]

    def items(self) -> Any:
        return Items(self)  # type: ignore[arg-type]

    def iterkeys(self) -> Iterator[str]:
        return iter(self.keys())

    def itervalues(self) -> Iterator[Any]:
        return iter(self.values())

    def iteritems(self) -> Iterator[tuple[str, Any]]:
        return iter(self.items())

    def has_key(self, key: str) -> bool:
        return key in self.keys()


class Ordered(_Python2Methods, OrderedDict[str, Value]):
    """Values by name, in the order of the net."""


class Outputs(_Python2Methods, dict[str, Value]):
    """Arrays by the names of their blobs: what a pass returns."""
