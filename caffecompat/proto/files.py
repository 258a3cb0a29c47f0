"""Reads and writes the messages of Caffe's files: prototxt text and binary."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TypeAlias

from caffecompat.errors import FileProblem, FormatError
from caffecompat.proto import dialects
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.proto.foreign import foreign_settings
from caffecompat.proto.format_text import format_text
from caffecompat.proto.schema import Message, message_class
from caffecompat.proto.source import Source
from caffecompat.proto.text import parse_text
from caffecompat.proto.upgrades import (
    OldNetError,
    OldSolverError,
    located,
    upgrade_net,
    upgrade_solver,
)
from caffecompat.proto.wrong_files import looks_like_text, wrong_bytes, wrong_text

PathLike: TypeAlias = str | os.PathLike[str]

# Enough to tell what a file is, before a big one of the wrong kind is read as a whole.
_HEAD = 4096


def read_net(path: PathLike, lenient: bool = False) -> tuple[Message, Source]:
    """Read a net definition (NetParameter) from prototxt, upgraded to today's form.

    ``Source.notes`` tells what was upgraded, and which fields of forks stand amid BVLC's.

    Args:
        path: the prototxt.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
        NetError: an old definition that no upgrade can make sense of.
    """
    net, source = read_upgraded(path, "NetParameter", lenient)
    notes = (*source.notes, *foreign_settings(net))
    return net, dataclasses.replace(source, notes=notes)


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
    return read_upgraded(path, "SolverParameter", lenient)


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
    data = read_bytes(path, lambda head: _refuse_binary(path, message, head))
    # Comments of old files come in many encodings, so only strings must be UTF-8.
    text = data.decode("utf-8", "surrogateescape")
    return parse_text(text, message, os.fspath(path), lenient)


def read_upgraded(path: PathLike, message: str, lenient: bool = False) -> tuple[Message, Source]:
    """Read a NetParameter or SolverParameter from prototxt, upgraded; the work of the two above.

    ``Source.notes`` tells what was upgraded and nothing else: it is empty for today's files.
    """
    result, source = read_text(path, message, lenient)
    try:
        notes = (upgrade_net if message == "NetParameter" else upgrade_solver)(result)
    except (OldNetError, OldSolverError) as error:
        raise located(error, source) from error
    return result, dataclasses.replace(source, notes=tuple(notes))


def read_binary(path: PathLike, message: str, dialect: str | None = None) -> Message:
    """Read a binary message; not for big weight files, which the weights room maps instead.

    Args:
        path: the file.
        message: name of the message, e.g. ``"BlobProto"``.
        dialect: whose numbers to read by, see :mod:`caffecompat.proto.dialects`; None for BVLC's,
            with fields of unknown numbers kept for rewriting.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: its content is not that message.
        UnknownName: there is no such dialect.
    """
    return parse_binary(read_bytes(path), message, os.fspath(path), dialect)


def parse_binary(data: bytes, message: str, path: str, dialect: str | None = None) -> Message:
    """The same for the content of a file; ``path`` is its name in messages."""
    from google.protobuf.message import DecodeError

    try:
        if dialect is not None:
            result = dialects.from_dialect(data, message, dialect)[0]
        else:
            result = message_class(message).FromString(data)
    except (DecodeError, FormatError) as error:
        found = _found_instead(data) or "the data is damaged, cut off or of another kind"
        raise FormatError(f"{path}: {found}, expected a binary {message}") from error
    if data and not result.ListFields():
        found = _found_instead(data) or "the data holds none of its fields"
        raise FormatError(f"{path}: {found}, expected a binary {message}")
    return result


def write_text(message: Message, path: PathLike) -> None:
    """Write a message as prototxt text.

    Raises:
        FileProblem: the file cannot be written; an old one is as it was.
    """
    with atomic_write(path) as file:
        file.write(format_text(message).encode("ascii"))


def write_binary(message: Message, path: PathLike, dialect: str = dialects.BVLC) -> None:
    """Write a message in protobuf's binary form.

    Args:
        message: a message of the united schema.
        path: the file.
        dialect: whose numbers forks' fields get, one of ``dialects.DIALECTS``.

    Raises:
        FileProblem: the file cannot be written; an old one is as it was.
        FormatError: a field has no number in the dialect.
    """
    try:
        data = dialects.to_dialect(message, dialect)
    except FormatError as error:
        raise FormatError(f"{os.fspath(path)}: {error}") from error
    with atomic_write(path) as file:
        file.write(data)


def is_text(path: PathLike) -> bool:
    """Whether the file's first bytes are text.

    Raises:
        FileProblem: the file cannot be read.
    """
    return looks_like_text(_read(path, lambda head: None, whole=False))


def read_bytes(path: PathLike, check: Callable[[bytes], None] = lambda head: None) -> bytes:
    """The content of a file; ``check`` may refuse it by its first bytes.

    Raises:
        FileProblem: the file cannot be read.
    """
    return _read(path, check)


def _read(path: PathLike, check: Callable[[bytes], None], whole: bool = True) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            check(head)
            return head + file.read() if whole else head
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
