"""Brings definitions of older Caffe generations up to date, one file per generation.

An upgrade is a pair of functions: whether it is needed, and what it does. They run in a fixed
order, with a note for each; a second run changes nothing. To add one, add a file with a registered
function::

    @upgrade("old name", message="NetParameter", order=45, note="...", needed=has_old_name)
    def replace_old_name(net: Message) -> list[str]: ...

Source of the order and of each rule: util/upgrade_proto.cpp of BVLC Caffe.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from caffecompat.errors import NetError, SolverError
from caffecompat.proto.descriptors import layout
from caffecompat.proto.schema import Message
from caffecompat.proto.text.positions import Source
from caffecompat.registry import Registry

_MOST_BYTES_SHOWN = 40


# Reads the net file of a solver that names one, upgraded.
ReadNet: TypeAlias = Callable[[str], Message]


@dataclass
class Upgrade:
    """One step: ``apply`` changes a message for which ``needed`` holds.

    ``apply`` returns further notes, one line each; mostly none. Where something is lost, the note
    is a :class:`Problem`. With ``reads_net`` it takes a second argument, a :data:`ReadNet`.
    """

    message: str
    order: int
    note: str
    needed: Callable[[Message], bool]
    apply: Callable[..., list[str]]
    reads_net: bool = False


class Problem(str):
    """A note about something of the old file that its upgrade could not keep.

    Caffe's upgrade tools end with exit code 1 where there is one, but write their output.
    """

    __slots__ = ()


class OldNetError(NetError):
    """An old net definition that cannot be upgraded.

    Args:
        sentence: what is wrong; ``{0}``, ``{1}`` stand for the lines of the entries.
        entries: the values in question, each a field of the net and an index.
    """

    def __init__(self, sentence: str, *entries: tuple[str, int]) -> None:
        super().__init__(_fill(sentence, [""] * len(entries)))
        self.sentence = sentence
        self.entries = entries


class OldSolverError(SolverError):
    """An old solver definition that cannot be upgraded; arguments as for nets."""

    def __init__(self, sentence: str, *entries: tuple[str, int]) -> None:
        super().__init__(_fill(sentence, [""] * len(entries)))
        self.sentence = sentence
        self.entries = entries


def located(error: OldNetError | OldSolverError, source: Source) -> NetError | SolverError:
    """The same error with file and lines, if the source has them."""
    lines = [source.line_of(name, index) for name, index in error.entries]
    known = [line for line in lines if line is not None]
    place = f"{source.path}:{known[0]}" if known else source.path
    shown = ["" if line is None else f" on line {line}" for line in lines]
    kind = NetError if isinstance(error, NetError) else SolverError
    return kind(f"{place}: {_fill(error.sentence, shown)}")


def _fill(sentence: str, shown: list[str]) -> str:
    for index, text in enumerate(shown):
        sentence = sentence.replace(f"{{{index}}}", text)
    return sentence


Apply = TypeVar("Apply", bound=Callable[..., list[str]])

UPGRADES: Registry[Upgrade] = Registry("upgrade", __name__)


def upgrade(
    name: str,
    *,
    message: str,
    order: int,
    note: str,
    needed: Callable[[Message], bool],
    reads_net: bool = False,
) -> Callable[[Apply], Apply]:
    """Decorator that registers a function as an upgrade step.

    Args:
        name: unique name of the step.
        message: the message it is for, ``"NetParameter"`` or ``"SolverParameter"``.
        order: steps run from the lowest to the highest.
        note: the line that announces it.
        needed: whether a message needs the step.
        reads_net: whether the function takes a :data:`ReadNet` beside the message.
    """

    def enter(apply: Apply) -> Apply:
        step = Upgrade(message, order, note, needed, apply, reads_net)
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


def upgrade_solver(solver: Message, read_net: ReadNet) -> list[str]:
    """Upgrade a SolverParameter in place; returns what was done, one line each.

    Args:
        read_net: reads the train net that the solver names, where an upgrade depends on it.

    Raises:
        SolverError: both the old and the new field for the solver's type are given.
    """
    return _run("SolverParameter", solver, read_net)


def put(target: Message, name: str, value: Any) -> None:
    """Set a field to the value of another message's field, whatever kind it is.

    A single value for a repeated field is appended: some fields became lists in later generations.
    A list of one value may become a single field.
    """
    field = layout(target.DESCRIPTOR).fields[name]
    several = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
    if field.repeated:
        values = value if several else [value]
        if field.kind == "string":
            append_texts(getattr(target, name), values)
        else:
            getattr(target, name).extend(values)
    elif several:
        put(target, name, value[0])
    elif field.kind == "message":
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def append_texts(target: Any, values: Any) -> None:
    """Append strings to a repeated field, one by one.

    ``extend`` of protobuf 4.25 drops those that are not UTF-8, and ``append`` raises an error.
    """
    for value in values:
        target.append(value)


def _run(kind: str, message: Message, *read_net: ReadNet) -> list[str]:
    steps = sorted((UPGRADES.find(name) for name in UPGRADES), key=lambda step: step.order)
    notes: list[str] = []
    try:
        for step in steps:
            if step.message == kind and step.needed(message):
                notes.append(step.note)
                notes.extend(step.apply(message, *(read_net if step.reads_net else ())))
    except UnicodeDecodeError as error:
        # protobuf reads any bytes from a binary file, but returns only valid text.
        problem = OldNetError if kind == "NetParameter" else OldSolverError
        found = error.object[:_MOST_BYTES_SHOWN]
        raise problem(
            f"a name or another string in it is not UTF-8, found {found!r}, so the old definition "
            "cannot be upgraded; correct it in the prototxt that the file was made from"
        ) from error
    return notes
