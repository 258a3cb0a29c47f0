"""Reads and writes the messages of Caffe's files: prototxt text and binary."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import (
    MEBIBYTE,
    ClaimedBytes,
    PathLike,
    StandardInput,
    check_size,
    open_input,
)
from caffecompat.output_files import atomic_write
from caffecompat.proto.binary import dialects
from caffecompat.proto.binary.claimed_messages import count_messages, most_memory
from caffecompat.proto.schema import Message, message_class
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.text.positions import Source
from caffecompat.proto.text.printer import format_text
from caffecompat.proto.upgrades import (
    OldNetError,
    OldSolverError,
    located,
    upgrade_net,
    upgrade_solver,
)
from caffecompat.proto.upgrades.v1_layers import join_generations
from caffecompat.proto.wrong_files import looks_like_text, wrong_bytes, wrong_text

# The default limit of a prototxt: 270,000 layers of VGG.
MAX_PROTOTXT_BYTES = 64 * MEBIBYTE
# The largest binary message that protobuf reads.
MAX_BINARY_BYTES = 2048 * MEBIBYTE

# The bytes that are needed to recognise the type of a file before all of it is read.
_HEAD = 4096


def read_net(
    path: PathLike, lenient: bool = False, max_bytes: int | None = None
) -> tuple[Message, Source]:
    """Read a net definition (NetParameter) from prototxt, upgraded to today's form.

    ``Source.notes`` has the upgrades.

    Args:
        path: the prototxt.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            64 MiB of text, and for the messages six times its size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
        NetError: an old definition cannot be upgraded.
    """
    return read_upgraded(path, "NetParameter", lenient, max_bytes)


def read_solver(
    path: PathLike, lenient: bool = False, max_bytes: int | None = None
) -> tuple[Message, Source]:
    """Read a solver (SolverParameter) from prototxt, upgraded to today's form.

    As BVLC Caffe does, nets inside the solver stay as they are.

    Args:
        path: the prototxt.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            64 MiB of text, and for the messages six times its size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
        SolverError: both the old and the new field for the solver's type are given.
    """
    return read_upgraded(path, "SolverParameter", lenient, max_bytes)


def read_upgraded_net(path: PathLike) -> Message:
    """The NetParameter of a prototxt, upgraded; for upgrades that look into a net."""
    return read_net(path)[0]


def read_text(
    path: PathLike, message: str, lenient: bool = False, max_bytes: int | None = None
) -> tuple[Message, Source]:
    """Read prototxt text into a message, without upgrades.

    Args:
        path: the file.
        message: name of the message, e.g. ``"NetParameter"``.
        lenient: skip unknown fields (listed in ``Source.warnings``) instead of refusing them.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            64 MiB of text, and for the messages six times its size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
    """
    limit = MAX_PROTOTXT_BYTES if max_bytes is None else max_bytes
    # Comments of old files come in many encodings, so only strings must be UTF-8.
    text = _read_bytes(path, limit, lambda head: _refuse_binary(path, message, head)).decode(
        "utf-8", "surrogateescape"
    )
    return parse_text(text, message, os.fspath(path), lenient, max_bytes)


def read_upgraded(
    path: PathLike, message: str, lenient: bool = False, max_bytes: int | None = None
) -> tuple[Message, Source]:
    """Read a NetParameter or SolverParameter from prototxt, upgraded.

    ``Source.notes`` has the upgrades only; it is empty for files in the current form.
    """
    result, source = read_text(path, message, lenient, max_bytes)
    try:
        if message == "NetParameter":
            notes = [*_join_generations(result, source), *upgrade_net(result)]
        else:
            notes = upgrade_solver(result, read_upgraded_net)
    except (OldNetError, OldSolverError) as error:
        raise located(error, source) from error
    return result, dataclasses.replace(source, notes=tuple(notes))


def _join_generations(net: Message, source: Source) -> list[str]:
    return join_generations(net, source.fields.get("layer", ()), source.fields.get("layers", ()))


def read_binary(
    path: PathLike, message: str, dialect: str | None = None, max_bytes: int | None = None
) -> Message:
    """Read a binary message; for large weight files use caffecompat.weights, which maps them.

    Args:
        path: the file.
        message: name of the message, e.g. ``"BlobProto"``.
        dialect: the dialect of the field numbers, see :mod:`caffecompat.proto.binary.dialects`;
            None for BVLC's, where fields with unknown numbers are kept for writing.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            2 GiB, beyond which protobuf reads nothing, and for the messages four times the file's
            size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: its content is not that message, or it is larger.
        UnknownName: there is no such dialect.
    """
    data = read_message(path, max_bytes)
    if data:
        known = dialect in dialects.DIALECTS
        kind = dialects.descriptor(message, dialect if dialect and known else dialects.BVLC)
        most = most_memory(len(data))
        count_messages(data, kind, ClaimedBytes(path, len(data), max_bytes, most=lambda: most))
    return parse_binary(data, message, os.fspath(path), dialect)


def parse_binary(data: bytes, message: str, path: str, dialect: str | None = None) -> Message:
    """:func:`read_binary` for the content of a file; ``path`` is its name in messages."""
    from google.protobuf.message import DecodeError

    surplus: tuple[str, ...] = ()
    try:
        if dialect is not None:
            result, _, surplus = dialects.from_dialect(data, message, dialect)
        else:
            result = message_class(message).FromString(data)
    except (DecodeError, FormatError) as error:
        found = _found_instead(data) or "the data is damaged, cut off or of another kind"
        raise FormatError(f"{path}: {found}, expected a binary {message}") from error
    if surplus:
        raise FormatError(
            f"{path}: {surplus[0]}; read the file with "
            "caffecompat.proto.binary.nets.read_binary_net, which does that"
        )
    if data and not result.ListFields():
        found = _found_instead(data) or "the data holds none of its fields"
        raise FormatError(f"{path}: {found}, expected a binary {message}")
    return result


def write_text(message: Message, path: PathLike) -> None:
    """Write a message as prototxt text.

    Raises:
        FileProblem: the file cannot be written; an existing one is not changed.
    """
    with atomic_write(path) as file:
        file.write(format_text(message).encode("ascii"))


def write_binary(message: Message, path: PathLike, dialect: str = dialects.BVLC) -> None:
    """Write a message in protobuf's binary form.

    Args:
        message: a message of the united schema.
        path: the file.
        dialect: the dialect of the numbers of forks' fields, one of ``dialects.DIALECTS``.

    Raises:
        FileProblem: the file cannot be written; an existing one is not changed.
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
    if isinstance(path, StandardInput):
        return looks_like_text(path.data[:_HEAD])
    with open_input(path) as file:
        return looks_like_text(file.read(_HEAD))


def read_message(path: PathLike, max_bytes: int | None = None) -> bytes:
    """The bytes of a binary message.

    Args:
        path: the file.
        max_bytes: the largest size to read; None for 2 GiB, the most that protobuf reads.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: it is larger.
    """
    name = os.fspath(path)
    size = _size(path)
    if size > MAX_BINARY_BYTES:
        raise FormatError(
            f"{name}: {size:,} bytes, more than the {MAX_BINARY_BYTES:,} that a binary message can "
            "have; inspect and convert read weight files of any size"
        )
    return _read_bytes(path, MAX_BINARY_BYTES if max_bytes is None else max_bytes)


def _read_bytes(
    path: PathLike, limit: int, check: Callable[[bytes], None] = lambda head: None
) -> bytes:
    """The content of a regular file of at most ``limit`` bytes, or of standard input.

    ``check`` may refuse it by its first bytes.
    """
    name = os.fspath(path)
    if isinstance(path, StandardInput):
        check(path.data[:_HEAD])
        check_size(len(path.data), limit, name)
        return path.data
    with open_input(path) as file:
        # An error about the type of a file is more useful than one about its size.
        check(file.read(_HEAD))
        check_size(os.fstat(file.fileno()).st_size, limit, name)
        file.seek(0)
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise FileProblem(f"{name}: cannot be read: {error.strerror or error}") from error
        check_size(len(data), limit, name)
        return data


def _size(path: PathLike) -> int:
    if isinstance(path, StandardInput):
        return len(path.data)
    with open_input(path) as file:
        return os.fstat(file.fileno()).st_size


def _refuse_binary(path: PathLike, message: str, head: bytes) -> None:
    wrong = wrong_bytes(head)
    if wrong is not None:
        raise FormatError(f"{os.fspath(path)}: {wrong}, expected prototxt text ({message})")


def _found_instead(data: bytes) -> str | None:
    if not looks_like_text(data):
        return wrong_bytes(data) if data[:4] in (b"\x89HDF", b"PK\x03\x04") else None
    head = data[:_HEAD].decode("utf-8", "replace")
    return wrong_text(head) or "this is text (perhaps a prototxt)"
