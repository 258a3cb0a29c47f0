"""Whether a net's parameters have changed, at little cost where they cannot have.

torch counts the changes of each tensor. After a short pass, whose numbers have driven the counts
out of the caches, to look at all of them takes some per cent of its time. A tensor that the net's
modules alone refer to cannot change before somebody takes it from its module. So its count is
looked at once after that, and from then on if somebody still has it: passes of the net's own
program, for instance, take all parameters and keep none.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import nn

_CHANGES = attrgetter("_version")
_PLACE = torch.Tensor.data_ptr
# How many tensors have the memory of one. torch has no public name for it.
_SHARERS = getattr(torch._C, "_storage_Use_Count", None)


class ParameterChanges:
    """Compares a net's parameters and statistics with what they are when it is made.

    Writing through ``.data`` or numpy is not seen: torch does not count it.

    Args:
        net: from now on the dictionaries of its modules note who takes a parameter, until
            :meth:`close`.
    """

    def __init__(self, net: nn.Module) -> None:
        position = getattr(net, "position", None)
        every = [one for one in (*net.parameters(), *net.buffers()) if one is not position]
        self._access = _Access()
        self._tables = list(_install(net, every, self._access))
        # How often each is referred to while nobody else has it.
        self._held = _references([table for _, _, table in self._tables])
        self._every = _Counts(every)
        self._reachable: _Counts | None = self._counts_of_reachable()

    def found(self) -> bool:
        """Whether any has changed, lies in other memory, or has been replaced."""
        if self._access.taken:
            self._access.taken, self._reachable = False, None
            return self._any_differs()
        reachable = self._reachable
        if reachable is not None:
            return reachable.differ()
        # In this order: a change in between, by another thread, is seen.
        reachable = self._counts_of_reachable()
        if self._any_differs():
            return True
        self._reachable = reachable
        return False

    def accept(self) -> None:
        """Takes the present values for those that are compared with."""
        self._every.accept()
        reachable = self._reachable
        if reachable is not None:
            reachable.accept()

    def _any_differs(self) -> bool:
        if self._access.replaced and any(table.has_others() for _, _, table in self._tables):
            return True
        return self._every.differ()

    def _counts_of_reachable(self) -> _Counts:
        tables = [table for _, _, table in self._tables]
        if _references(tables) != self._held:
            # Who has a table, or goes through it, can take more tensors unnoticed.
            return _Counts(self._every.tensors)
        return _Counts(_reachable(self._every.tensors, tables))

    def close(self) -> None:
        """Gives the net's modules their own dictionaries again."""
        for module, name, table in self._tables:
            if vars(module)[name] is table:
                vars(module)[name] = table.plain()


class _Counts:
    """The counts of changes and the places of tensors.

    Attributes:
        tensors: those.
    """

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors
        # They share the tensors' counts, which inference tensors do not have, and keep their
        # memory, so that no other tensor comes to lie there.
        with torch.inference_mode(False):
            self._counted = [one.detach() for one in tensors if not one.is_inference()]
        self._known = self._now()

    def differ(self) -> bool:
        """Whether they are not those of the moment when this was made, or of :meth:`accept`."""
        return len(self.tensors) > 0 and self._now() != self._known

    def accept(self) -> None:
        self._known = self._now()

    def _now(self) -> tuple[int, int]:
        # As few objects as can be, in loops in C. Counts of changes only grow, so that one sum
        # says whether any has.
        return hash(tuple(map(_PLACE, self.tensors))), sum(map(_CHANGES, self._counted))


class _Access:
    """What has been done with the tables of a net.

    Attributes:
        taken: somebody has taken tensors from one since this was last false.
        replaced: somebody has put tensors into one, or removed some.
    """

    taken = False
    replaced = False


class _Table(dict[str, Any]):
    """The parameters or statistics of a module by name; notes when somebody takes or puts any."""

    def __init__(self, tensors: dict[str, Any], access: _Access) -> None:
        super().__init__(tensors)
        self._known, self._access = list(tensors.items()), access

    def plain(self) -> dict[str, Any]:
        return dict(dict.items(self))

    def has_others(self) -> bool:
        """Whether the tensors are others than those of the beginning."""
        now = list(dict.items(self))
        return len(now) != len(self._known) or any(
            name != known or tensor is not one
            for (name, tensor), (known, one) in zip(now, self._known, strict=True)
        )

    def __iter__(self) -> Iterator[str]:
        # With a method of its own, dict() and ** take the values by the methods below.
        return super().__iter__()

    def __reduce__(self) -> Any:
        return dict, (self.plain(),)


def _noted(name: str, replaces: bool) -> Any:
    method = getattr(dict, name)

    def call(self: _Table, *arguments: Any, **keywords: Any) -> Any:
        try:
            return method(self, *arguments, **keywords)
        finally:
            # Afterwards: until then the references to what was taken are counted.
            self._access.taken = True
            self._access.replaced |= replaces

    return call


for _name in ("__getitem__", "get", "items", "values", "copy", "__or__", "__ror__"):
    setattr(_Table, _name, _noted(_name, replaces=False))
for _name in (
    *("__setitem__", "__delitem__", "__ior__"),
    *("clear", "pop", "popitem", "setdefault", "update"),
):
    setattr(_Table, _name, _noted(_name, replaces=True))


def _install(
    net: nn.Module, tensors: Sequence[torch.Tensor], access: _Access
) -> Iterator[tuple[nn.Module, str, _Table]]:
    """Gives the modules with such tensors tables, but for those that have another net's."""
    wanted = set(map(id, tensors))
    for module in net.modules():
        for name in ("_parameters", "_buffers"):
            own = vars(module)[name]
            if type(own) is dict and not wanted.isdisjoint(map(id, own.values())):
                vars(module)[name] = table = _Table(own, access)
                yield module, name, table


def _reachable(tensors: list[torch.Tensor], tables: Sequence[_Table]) -> list[torch.Tensor]:
    """The tensors that others than ``tensors`` and ``tables`` refer to, or whose memory they have.

    All where Python or torch does not say.

    Args:
        tensors: those of a :class:`_Counts`, which has the memory of each in another tensor too.
    """
    if _SHARERS is None or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return list(tensors)
    # A table refers to a tensor twice: it knows which it had.
    known = Counter(id(one) for table in tables for one in dict.values(table))
    references, sharers = _references([torch.empty(1)])[0], _sharers(torch.empty(1))
    counts = _references(tensors)
    return [
        one
        for one, count in zip(tensors, counts, strict=True)
        if count > references + 2 * known[id(one)]
        or _sharers(one) > sharers + (not one.is_inference())
    ]


def _references(objects: Sequence[object]) -> list[int]:
    return list(map(sys.getrefcount, objects))


def _sharers(tensor: torch.Tensor) -> int:
    assert _SHARERS is not None
    return int(_SHARERS(tensor.untyped_storage()._cdata))
