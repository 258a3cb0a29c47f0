"""Caffe's files as messages: the schema, prototxt text and binary in and out, upgrades.

Importing this package loads neither protobuf nor numpy; the first message does.
"""

from __future__ import annotations

from caffecompat.proto import files
from caffecompat.proto.schema import Message


def read_net(path: files.PathLike, lenient: bool = False, max_bytes: int | None = None) -> Message:
    """The NetParameter message of a prototxt of any generation, upgraded to today's form.

    Args:
        path: the prototxt.
        lenient: skip unknown fields instead of refusing them.
        max_bytes: the largest file to read, and the memory that its messages may take; by default
            64 MiB of text, and for the messages six times its size plus 64 MiB.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
    """
    return files.read_net(path, lenient, max_bytes)[0]


def read_solver(
    path: files.PathLike, lenient: bool = False, max_bytes: int | None = None
) -> Message:
    """The SolverParameter message of a solver prototxt, upgraded to today's form.

    Arguments and errors are those of :func:`read_net`.
    """
    return files.read_solver(path, lenient, max_bytes)[0]


__all__ = ["read_net", "read_solver"]
