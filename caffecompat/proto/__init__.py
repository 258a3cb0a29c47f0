"""Caffe's files as messages: the schema, prototxt text and binary in and out, upgrades.

Importing this package loads neither protobuf nor numpy; the first message does.
"""

from __future__ import annotations

from caffecompat.proto import files
from caffecompat.proto.schema import Message


def read_net(path: files.PathLike, lenient: bool = False) -> Message:
    """The NetParameter message of a prototxt of any generation, upgraded to today's form.

    Args:
        path: the prototxt.
        lenient: skip unknown fields instead of refusing them.

    Raises:
        FileProblem: the file cannot be read.
        TextError: the text has mistakes; FormatError: it is another kind of file.
    """
    return files.read_net(path, lenient)[0]


def read_solver(path: files.PathLike, lenient: bool = False) -> Message:
    """The SolverParameter message of a solver prototxt, upgraded to today's form.

    Arguments and errors are those of :func:`read_net`.
    """
    return files.read_solver(path, lenient)[0]


__all__ = ["read_net", "read_solver"]
