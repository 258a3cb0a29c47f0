"""Arrays in ``.npy`` files, whose sizes are checked before memory is taken."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import FormatError
from caffecompat.input_files import read_input
from caffecompat.weights.encodings.zip_checks import library_errors

SIGNATURE = b"\x93NUMPY"
NUMBERS = "fiu"


def read_npy(path: str | os.PathLike[str], max_bytes: int | None = None) -> NDArray[Any]:
    """The numbers in a ``.npy`` file, in their type and shape.

    Args:
        path: the file.
        max_bytes: the largest accepted size; None for 512 MiB.

    Raises:
        FileProblem: it is missing or cannot be read.
        FormatError: it is no such file, is cut off, holds no numbers, or is larger than that.
    """
    data = read_input(path, max_bytes)
    if not data.startswith(SIGNATURE):
        raise FormatError(f"{path}: expected a .npy file of numbers, it begins otherwise")
    file = BytesIO(data)
    with library_errors(Path(path), "a .npy file"):
        shape, fortran, dtype = read_npy_header(file)
    if dtype.kind not in NUMBERS:
        raise FormatError(f"{path}: expected a .npy file of numbers, it holds {dtype}")
    count, found = prod(shape), len(data) - file.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize > found:
        raise FormatError(
            f"{path}: it claims {shape} values of {dtype}, but has only {found} bytes for them"
        )
    values = np.frombuffer(data, dtype, count, file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first index changes fastest, and type; ``file`` is then at the values.

    Raises:
        ValueError: it is no header.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns about valid headers written by Python 2
        if np.lib.format.read_magic(file) == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
