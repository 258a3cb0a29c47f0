"""Reads binary nets (and solvers) of any dialect and generation, for use and for rewriting."""

from __future__ import annotations

import dataclasses
import os

from caffecompat.errors import FormatError
from caffecompat.input_files import ClaimedBytes
from caffecompat.proto.binary import dialects
from caffecompat.proto.binary.claimed_messages import count_messages, most_memory
from caffecompat.proto.binary.unreadable_fields import without_unreadable_fields
from caffecompat.proto.files import (
    PathLike,
    parse_binary,
    read_binary,
    read_message,
    read_upgraded_net,
)
from caffecompat.proto.schema import Message
from caffecompat.proto.text.positions import Source
from caffecompat.proto.upgrades import (
    OldNetError,
    OldSolverError,
    located,
    upgrade_net,
    upgrade_solver,
)


def read_binary_net(
    path: PathLike, dialect: str | None = None, max_bytes: int | None = None
) -> tuple[Message, Source]:
    """Read a binary net by the numbers of its dialect, upgraded to today's form.

    Parameters of layer types are kept only if the dialect is known; else names, types, bottoms,
    tops and blobs remain. ``Source.notes`` names the dialect.

    Args:
        path: the file; parsed as a whole, so not for weights that should rather be mapped.
        dialect: one of ``dialects.DIALECTS``; None to recognise it.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            2 GiB, and for the messages four times the file's size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: its content is no binary net, or above a limit.
        UnknownName: there is no such dialect.
        NetError: an old definition cannot be upgraded.
    """
    name = os.fspath(path)
    data = _read_counted(path, max_bytes)
    dialect = dialect or dialects.dialect_of(data)
    data, unreadable = _readable(data, name, dialect)
    try:
        net, left_out, surplus = dialects.from_dialect(data, "NetParameter", dialect)
    except FormatError as error:
        raise FormatError(f"{name}: {error}, by the numbers of the dialect {dialect!r}") from error
    notes = [*_dialect_notes(dialect), *unreadable, *surplus]
    if left_out and dialect == dialects.UNKNOWN:
        notes.append(f"left out {left_out} fields that are not names, types, wiring or blobs")
    elif left_out:
        notes.append(f"left out {left_out} fields whose numbers the dialect {dialect!r} lacks")
    notes += _upgraded(net, name)
    return net, dataclasses.replace(Source(name), notes=tuple(notes))


def upgrade_binary_net(
    path: PathLike, max_bytes: int | None = None
) -> tuple[Message, str, list[str], list[str]]:
    """Read a binary net and upgrade it, for writing it again.

    A net of an unknown dialect keeps its unknown fields by number, where its layers are today's.

    Returns:
        The net; the dialect to write it by; notes on the dialect; the upgrades.

    Raises:
        As :func:`read_binary_net`.
    """
    name = os.fspath(path)
    data = _read_counted(path, max_bytes)
    dialect = dialects.dialect_of(data)
    data, unreadable = _readable(data, name, dialect)
    # What the group of 2013 had is translated to fields of today.
    lasting = dialect in (dialects.CAFFECOMPAT, "ssd", "nvcaffe")
    read_notes = [
        f"{note}, and written by them" if lasting else note for note in _dialect_notes(dialect)
    ]
    read_notes += unreadable
    if dialect in (dialects.BVLC, dialects.CAFFECOMPAT, dialects.UNKNOWN):
        net = parse_binary(data, "NetParameter", name)
    else:
        net, _, surplus = dialects.from_dialect(data, "NetParameter", dialect)
        read_notes += surplus
    if dialect == dialects.UNKNOWN:
        if net.layers:
            read_notes.append("fields of old layers that BVLC's schema does not have are left out")
        else:
            read_notes.append("parameters of forks' layer types are kept as they are")
    notes = _upgraded(net, name)
    return net, dialect if lasting else dialects.BVLC, read_notes, notes


def upgrade_binary_solver(
    path: PathLike, max_bytes: int | None = None
) -> tuple[Message, list[str]]:
    """Read a binary solver definition and upgrade it; also what was upgraded.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: its content is no binary solver.
        SolverError: an old definition cannot be upgraded.
    """
    solver = read_binary(path, "SolverParameter", max_bytes=max_bytes)
    try:
        return solver, upgrade_solver(solver, read_upgraded_net)
    except OldSolverError as error:
        raise located(error, Source(os.fspath(path))) from error


def _read_counted(path: PathLike, max_bytes: int | None) -> bytes:
    """The data of a binary net whose messages fit into memory, by whatever schema it is parsed."""
    data = read_message(path, max_bytes)
    for dialect in dialects.DIALECTS:
        claimed = ClaimedBytes(path, len(data), max_bytes, most=lambda: most_memory(len(data)))
        count_messages(data, dialects.descriptor("NetParameter", dialect), claimed)
    return data


def _readable(data: bytes, path: str, dialect: str) -> tuple[bytes, list[str]]:
    """The data without fields that BVLC's schema cannot parse, and a line for each of them.

    Where another dialect explains the data all of it stays.

    Raises:
        FormatError: the data is of another kind, or damaged in what all Caffes agree on.
    """
    if dialect not in (dialects.BVLC, dialects.UNKNOWN):
        return data, []
    try:
        parse_binary(data, "NetParameter", path)
    except FormatError as error:
        try:
            kept, lost = without_unreadable_fields(data)
        except FormatError:
            raise error from None
        if not lost:
            raise
        parse_binary(kept, "NetParameter", path)
        return kept, [
            f"left out {what}: its content is not what BVLC's schema says of its number"
            for what in lost
        ]
    return data, []


def _dialect_notes(dialect: str) -> list[str]:
    if dialect == dialects.BVLC:
        return []
    if dialect == dialects.UNKNOWN:
        return ["this net follows none of the known dialects"]
    return [f"read by the numbers of the dialect {dialect!r}"]


def _upgraded(net: Message, path: str) -> list[str]:
    try:
        return upgrade_net(net)
    except OldNetError as error:
        raise located(error, Source(path)) from error
