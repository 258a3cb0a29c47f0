"""Reading and writing of HDF5 files in Caffe's layout; files are read in a separate process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.output_files import atomic_write
from caffecompat.weights.hdf5_input.process import DATA_SET, SIGNATURE, opened
from caffecompat.weights.mapped import check_file
from caffecompat.weights.weights import as_float32

KINDS = {"fiu": "numbers", "fiub": "numbers", "iu": "an integer", "S": "a string of fixed length"}

__all__ = [
    "SIGNATURE",
    "DataSet",
    "Group",
    "HDF5File",
    "create_hdf5",
    "indices",
    "numbered",
    "open_hdf5",
    "read_integer",
    "read_text",
    "write_text",
]

# h5py has no type annotations.
Group: TypeAlias = Any


class HDF5File:
    """An HDF5 file that is open in the reader process, see :func:`open_hdf5`.

    Names are paths from the root with slashes between their parts. All methods raise FormatError
    if the file is damaged or uses features that Caffe's files do not need: links and storage in
    other files, filters other than gzip and shuffle, sizes above the limit.
    """

    def __init__(self, path: Path, ask: Any) -> None:
        self.path = path
        self._ask = ask

    def __contains__(self, name: str) -> bool:
        return self.kind(name) is not None

    def members(self, name: str = "") -> list[str]:
        """The names in a group, in HDF5's order.

        Raises:
            FormatError: it is not a group.
        """
        names: list[str] = self._ask(members=name)["members"]
        return names

    def describe(self, name: str) -> DataSet | None:
        """The metadata of a data set; None if ``name`` is not a data set."""
        if self.kind(name) != DATA_SET:
            return None
        found = self._ask(describe=name)
        shape = found["shape"]
        return DataSet(None if shape is None else tuple(shape), found["name"], found["kind"])

    def check(self, name: str) -> None:
        """Checks a data set of numbers and counts its size, as :meth:`read`, without reading it."""
        self._ask(check=name)

    def read(self, name: str, kinds: str = "fiu") -> np.ndarray:
        """The values of a data set, in their type in the file.

        Raises:
            FormatError: there is no such data set, or its type is not one of ``kinds`` (numpy's
                kind letters).
        """
        found = self.describe(name)
        who = f"{self.path}: /{name.strip('/')}"
        if found is None:
            raise FormatError(f"{who} is missing or no data set")
        if found.kind not in kinds:
            raise FormatError(f"{who} holds {found.dtype}, expected {KINDS[kinds]}")
        array: np.ndarray = self._ask(read=name)["array"]
        return array

    def attribute(self, name: str, key: str) -> str | int | None:
        """A short text or an integer; None if the object has no such attribute.

        Raises:
            FormatError: the attribute is of another kind.
        """
        value: str | int | None = self._ask(attribute=[name, key])["value"]
        return value

    def references(self, name: str, group: str) -> list[str | None]:
        """The names in ``group`` that a data set of references leads to; None for no object.

        Raises:
            FormatError: it holds something else, or a reference leads out of the group.
        """
        names: list[str | None] = self._ask(references=[group, name])["names"]
        return names

    def kind(self, name: str) -> str | None:
        """GROUP or DATA_SET of :mod:`.process`, or another word; None if there is no such name."""
        kind: str | None = self._ask(kind=name)["kind"]
        return kind


class DataSet(NamedTuple):
    """The metadata of a data set.

    Attributes:
        shape: its extents; None for a null data space, which has no values.
        dtype: the name of the stored type, or "strings".
        kind: numpy's kind letter of the type.
    """

    shape: tuple[int, ...] | None
    dtype: str
    kind: str


@contextmanager
def open_hdf5(
    path: Path, max_bytes: int | None = None, remedy: str | None = None
) -> Iterator[HDF5File]:
    """Context with an HDF5 file that is open for reading.

    Args:
        path: the file.
        max_bytes: the limit for the size of the file and of all values read from it; None for
            files of any size, and values of four times the file's size plus 64 MiB.
        remedy: the end of messages about the limit; None for the advice of a higher one.

    Raises:
        FileProblem: it is missing or unreadable.
        FormatError: it is damaged, not an HDF5 file, or above the limit.
    """
    check_file(path, max_bytes)
    with opened(path, max_bytes, remedy) as ask:
        yield HDF5File(path, ask)


@contextmanager
def create_hdf5(path: Path) -> Iterator[Group]:
    """Context with the root group of a new HDF5 file, which is built in memory.

    At the end it is written to ``path`` atomically. The HDF5 library itself crashes when a disk is
    full.

    Raises:
        FileProblem: the file cannot be written.
    """
    import h5py

    memory = BytesIO()
    with h5py.File(memory, "w") as group:
        yield group
    with atomic_write(path) as file:
        file.write(memory.getbuffer())


def numbered(file: HDF5File, group: str) -> list[np.ndarray]:
    """The data sets "0", "1", ... of a group as float32, in order of number.

    Raises:
        FormatError: the group has other names, or the numbers have a gap.
    """
    numbers = indices(file, group)
    if numbers != list(range(len(numbers))):
        raise FormatError(
            f"{file.path}: /{group} holds the data sets {', '.join(map(str, numbers))}; expected "
            f"them numbered from 0 to {len(numbers) - 1}"
        )
    return [as_float32(file.read(f"{group}/{number}")) for number in numbers]


def indices(file: HDF5File, group: str) -> list[int]:
    """The names in a group as numbers, in ascending order.

    Raises:
        FormatError: it is not a group, or has names that are not numbers.
    """
    names = file.members(group)
    others = [name for name in names if not re.fullmatch("0|[1-9][0-9]{0,5}", name)]
    if others:
        raise FormatError(
            f"{file.path}: /{group} holds {', '.join(map(repr, others[:5]))}; expected data sets "
            "numbered from 0"
        )
    return sorted(map(int, names))


def read_integer(file: HDF5File, name: str) -> int:
    """The value of a data set with one integer.

    Raises:
        FormatError: the data set has another type or another number of values.
    """
    values = file.read(name, "iu")
    if values.size != 1:
        raise FormatError(f"{file.path}: /{name} has {values.size} values, expected one")
    return int(values.reshape(-1)[0])


def read_text(file: HDF5File, name: str) -> str:
    """The string in a scalar data set; bytes that are not UTF-8 become surrogates.

    Raises:
        FormatError: the data set has another type or more than one value.
    """
    values = file.read(name, "S")
    if values.shape:
        raise FormatError(f"{file.path}: /{name} has {values.size} strings, expected one")
    return bytes(values[()]).decode("utf-8", "surrogateescape")


def write_text(group: Group, name: str, text: str) -> None:
    """Writes a null-terminated string of fixed length, the only string type that Caffe reads."""
    import h5py

    raw = text.encode("utf-8", "surrogateescape") + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(raw))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    # No times, as for all other data sets, so that equal contents give equal files.
    settings.set_obj_track_times(False)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, settings)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(raw, f"S{len(raw)}"), kind)
