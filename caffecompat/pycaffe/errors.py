"""Exceptions of the pycaffe interface: CaffeError, and the type that pycaffe raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from caffecompat.errors import BlobError, CaffeError, DataError, FileProblem, NetError
from caffecompat.layers.python import UserCodeError


class ArgumentError(CaffeError, TypeError):
    """A call without a needed argument, or with one of another type."""


class CallError(NetError, RuntimeError):
    """A call that this net cannot do, or with arrays that do not fit."""


class FileError(FileProblem, RuntimeError):
    """A file is missing or cannot be read; pycaffe raises RuntimeError for it."""


class LayerNameError(BlobError, ValueError):
    """No layer of that name; pycaffe raises ValueError for it."""


class NoCopyError(CaffeError, RuntimeError):
    """A net, blob or solver cannot be copied or pickled; pycaffe raises RuntimeError for it."""


class OldNameError(CaffeError, AttributeError):
    """A method that pycaffe once had."""


class ImageFileError(DataError, OSError):
    """A file is no image that can be decoded; libraries of images raise OSError for it."""


class MissingImage(ImageFileError, FileNotFoundError):
    """There is no such image file."""


def refuse_copy(self: object, protocol: Any) -> Any:
    """The ``__reduce_ex__`` of classes whose objects cannot be copied or pickled, as in pycaffe.

    A copy would hold the arrays, or the net, of the original.
    """
    raise NoCopyError(
        f"a {type(self).__name__} cannot be copied or pickled; keep arrays of it, "
        "numpy.array(blob.data), or build it again and give it the weights of net.save(file)"
    )


@contextmanager
def pycaffe_errors() -> Iterator[None]:
    """Context that raises exceptions of Python layers as they were, and file problems as here."""
    try:
        yield
    except UserCodeError as failure:
        raise (failure.__cause__ or failure) from None
    except FileError:
        raise
    except FileProblem as problem:
        raise FileError(str(problem)) from problem
