"""Reads and writes the messages of Caffe's files: prototxt text and binary."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TypeAlias

from caffecompat.errors import FileProblem, FormatError, NetError, SolverError
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.proto.format_text import format_text
from caffecompat.proto.schema import Message, message_class
from caffecompat.proto.source import Source
from caffecompat.proto.text import parse_text
from caffecompat.proto.upgrades import upgrade_net, upgrade_solver
from caffecompat.proto.wrong_files import looks_like_text, wrong_bytes, wrong_text

PathLike: TypeAlias = str | os.PathLike[str]

# Enough to tell what a file is, before a big one of the wrong kind is read as a whole.
_HEAD = 4096


def read_net(path: PathLike, lenient: bool = False) -> tuple[Message, Source]:
    """Read a net definition (NetParameter) from prototxt, upgraded to today's form.

    ``Source.notes`` tells what was upgraded.

    Args:
        path: the prototxt.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
        NetError: an old definition that no upgrade can make sense of.
    """
    return _read_upgraded(path, "NetParameter", lenient, upgrade_net)


def read_solver(path: PathLike, lenient: bool = False) -> tuple[Message, Source]:
    """Read a solver (SolverParameter) from prototxt, upgraded to today's form.

    As BVLC Caffe does, nets inside the solver stay as they are.

    Args:
        path: the prototxt.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
        SolverError: both the old and the new field for the solver's type are given.
    """
    return _read_upgraded(path, "SolverParameter", lenient, upgrade_solver)


def read_text(path: PathLike, message: str, lenient: bool = False) -> tuple[Message, Source]:
    """Read prototxt text into a message as it stands, without upgrades.

    Args:
        path: the file.
        message: name of the message, e.g. ``"NetParameter"``.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
    """
    data = _read_bytes(path, lambda head: _refuse_binary(path, message, head))
    # Comments of old files come in many encodings, so only strings must be UTF-8.
    text = data.decode("utf-8", "surrogateescape")
    return parse_text(text, message, os.fspath(path), lenient)


def read_binary(path: PathLike, message: str) -> Message:
    """Read a binary message; not for big weight files, which the weights room maps instead.

    Args:
        path: the file.
        message: name of the message, e.g. ``"BlobProto"``.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: its content is not that message.
    """
    from google.protobuf.message import DecodeError

    kind = message_class(message)
    data = _read_bytes(path, lambda head: None)
    name = os.fspath(path)
    try:
        result: Message = kind.FromString(data)
    except DecodeError as error:
        found = _found_instead(data) or "the data is damaged, cut off or of another kind"
        raise FormatError(f"{name}: {found}, expected a binary {message}") from error
    if data and not result.ListFields():
        found = _found_instead(data) or "the data holds none of its fields"
        raise FormatError(f"{name}: {found}, expected a binary {message}")
    return result


def write_text(message: Message, path: PathLike) -> None:
    """Write a message as prototxt text.

    Raises:
        FileProblem: the file cannot be written; an old one is as it was.
    """
    with atomic_write(path) as file:
        file.write(format_text(message).encode("ascii"))


def write_binary(message: Message, path: PathLike) -> None:
    """Write a message in protobuf's binary form.

    Raises:
        FileProblem: the file cannot be written; an old one is as it was.
    """
    with atomic_write(path) as file:
        file.write(message.SerializeToString())


def _read_upgraded(
    path: PathLike, message: str, lenient: bool, upgrade: Callable[[Message], list[str]]
) -> tuple[Message, Source]:
    result, source = read_text(path, message, lenient)
    try:
        notes = upgrade(result)
    except (NetError, SolverError) as error:
        raise type(error)(f"{source.path}: {error}") from error
    return result, dataclasses.replace(source, notes=tuple(notes))


def _read_bytes(path: PathLike, check: Callable[[bytes], None]) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            check(head)
            return head + file.read()
    except FileNotFoundError:
        raise FileProblem(f"{os.fspath(path)}: there is no such file") from None
    except IsADirectoryError:
        raise FileProblem(f"{os.fspath(path)}: is a folder, expected a file") from None
    except FormatError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise FileProblem(f"{os.fspath(path)}: cannot be read: {reason}") from error


def _refuse_binary(path: PathLike, message: str, head: bytes) -> None:
    wrong = wrong_bytes(head)
    if wrong is not None:
        raise FormatError(f"{os.fspath(path)}: {wrong}, expected prototxt text ({message})")


def _found_instead(data: bytes) -> str | None:
    if not looks_like_text(data):
        return wrong_bytes(data) if data[:4] in (b"\x89HDF", b"PK\x03\x04") else None
    head = data[:_HEAD].decode("utf-8", "replace")
    return wrong_text(head) or "this is text (perhaps a prototxt)"
