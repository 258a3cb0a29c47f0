"""Brings definitions of older Caffe generations up to date, one file per generation.

An upgrade is a pair: is it needed, do it. The pairs run in a fixed order, each announced in one
line; running them twice changes nothing. To add one, add a file with a registered function::

    @upgrade("old name", message="NetParameter", order=45, note="...", needed=has_old_name)
    def replace_old_name(net: Message) -> list[str]: ...

Source of the order and of each rule: util/upgrade_proto.cpp of BVLC Caffe.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caffecompat.proto.layout import layout
from caffecompat.proto.schema import Message
from caffecompat.registry import Registry


@dataclass
class Upgrade:
    """One step: ``apply`` changes a message for which ``needed`` holds.

    ``apply`` returns further notes, one line each; mostly none.
    """

    message: str
    order: int
    note: str
    needed: Callable[[Message], bool]
    apply: Callable[[Message], list[str]]


UPGRADES: Registry[Upgrade] = Registry("upgrade", __name__)


def upgrade(
    name: str, *, message: str, order: int, note: str, needed: Callable[[Message], bool]
) -> Callable[[Callable[[Message], list[str]]], Callable[[Message], list[str]]]:
    """Decorator that registers a function as an upgrade step.

    Args:
        name: unique name of the step.
        message: the message it is for, ``"NetParameter"`` or ``"SolverParameter"``.
        order: steps run from the lowest to the highest.
        note: the line that announces it.
        needed: whether a message needs the step.
    """

    def enter(apply: Callable[[Message], list[str]]) -> Callable[[Message], list[str]]:
        step = Upgrade(message, order, note, needed, apply)
        # The registry names the function in its message about duplicates.
        functools.update_wrapper(step, apply)  # type: ignore[arg-type]
        UPGRADES.register(name)(step)
        return apply

    return enter


def upgrade_net(net: Message) -> list[str]:
    """Upgrade a NetParameter in place; returns what was done, one line each.

    Raises:
        NetError: the definition mixes generations or makes no sense in its own.
    """
    return _run("NetParameter", net)


def upgrade_solver(solver: Message) -> list[str]:
    """Upgrade a SolverParameter in place; returns what was done, one line each.

    Raises:
        SolverError: both the old and the new field for the solver's type are given.
    """
    return _run("SolverParameter", solver)


def put(target: Message, name: str, value: Any) -> None:
    """Set a field to the value of another message's field, whatever kind it is.

    A single value for a repeated field is appended: some fields became lists in later generations.
    """
    field = layout(target.DESCRIPTOR).fields[name]
    if field.repeated:
        several = not isinstance(value, (int, float, str))
        getattr(target, name).extend(value if several else [value])
    elif field.kind == "message":
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def _run(kind: str, message: Message) -> list[str]:
    steps = sorted((UPGRADES.find(name) for name in UPGRADES), key=lambda step: step.order)
    notes: list[str] = []
    for step in steps:
        if step.message == kind and step.needed(message):
            notes.append(step.note)
            notes.extend(step.apply(message))
    return notes
