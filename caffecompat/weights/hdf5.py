"""HDF5 files as Caffe lays them out, opened without trusting them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from caffecompat.errors import FormatError, MissingExtra
from caffecompat.proto.atomic_write import atomic_write
from caffecompat.weights.damage import MOST_DEFLATED, reading
from caffecompat.weights.mapped import check_file
from caffecompat.weights.weights import as_float32

SIGNATURE = b"\x89HDF\r\n\x1a\n"
KINDS = {"fiu": "numbers", "iu": "an integer", "SO": "a string"}

# h5py has no types to check against.
Group: TypeAlias = Any
Dataset: TypeAlias = Any


@contextmanager
def open_hdf5(path: Path) -> Iterator[Group]:
    """The root group of an HDF5 file, for reading.

    Raises:
        FileProblem, FormatError, MissingExtra.
    """
    check_file(path)
    h5py = _h5py()
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        yield file


@contextmanager
def create_hdf5(path: Path) -> Iterator[Group]:
    """The root group of a new HDF5 file, made in memory, written beside ``path`` and renamed.

    HDF5's library crashes when a disk is full, so it sees none.

    Raises:
        FileProblem, MissingExtra.
    """
    h5py = _h5py()
    memory = BytesIO()
    with h5py.File(memory, "w") as group:
        yield group
    with atomic_write(path) as file:
        file.write(memory.getbuffer())


def member(group: Group, name: str, path: Path) -> Any:
    """The group or data set called ``name`` in ``group``, None if there is none.

    Links that lead out of the file are refused: a weight file has no business in other files.
    """
    h5py = _h5py()
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise FormatError(f"{path}: {group.name}/{name} is a link to elsewhere, expected contents")
    return group[name]


def numbered(group: Group, path: Path) -> list[np.ndarray]:
    """The data sets "0", "1", ... of a group in order of number.

    Raises:
        FormatError: other names, or a gap between the numbers.
    """
    arrays = indexed(group, path)
    if list(arrays) != list(range(len(arrays))):
        raise FormatError(
            f"{path}: {group.name} holds the data sets {', '.join(map(str, arrays))}; expected "
            f"them numbered from 0 to {len(arrays) - 1}"
        )
    return list(arrays.values())


def indexed(group: Group, path: Path) -> dict[int, np.ndarray]:
    """The data sets of a group whose names are numbers, by number in ascending order.

    Raises:
        FormatError: it is no group, or has other names in it.
    """
    if not isinstance(group, _h5py().Group):
        raise FormatError(f"{path}: {getattr(group, 'name', 'a group')} is no group of data sets")
    names = {name: int(name) for name in group if re.fullmatch("0|[1-9][0-9]{0,5}", name)}
    others = [name for name in group if name not in names]
    if others:
        raise FormatError(
            f"{path}: {group.name} holds {', '.join(map(repr, others[:5]))}; expected data sets "
            "numbered from 0"
        )
    return {
        index: read_dataset(member(group, name, path), path)
        for name, index in sorted(names.items(), key=lambda item: item[1])
    }


def read_dataset(dataset: Dataset, path: Path) -> np.ndarray:
    """A data set of numbers of any width, byte order, chunking and packing, as float32.

    Raises:
        FormatError: no numbers, contents in other files, or more values than the file can hold.
    """
    return as_float32(_values(dataset, "fiu", path))


def read_integer(dataset: Dataset, path: Path) -> int:
    """The one integer of a data set with one element.

    Raises:
        FormatError: something else is in it.
    """
    values = _values(dataset, "iu", path)
    if values.size != 1:
        raise FormatError(f"{path}: {dataset.name} has {values.size} values, expected one")
    return int(values.reshape(-1)[0])


def read_text(dataset: Dataset, path: Path) -> str:
    """The string in a scalar data set; bytes that are not UTF-8 survive as surrogates.

    Raises:
        FormatError: something else is in it.
    """
    value: object = _values(dataset, "SO", path)[()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise FormatError(f"{path}: {dataset.name} holds no string")


def write_text(group: Group, name: str, text: str) -> None:
    """A string of fixed length that ends in a zero byte, the only kind that Caffe reads."""
    h5py = _h5py()
    raw = text.encode("utf-8", "surrogateescape") + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(raw))
    kind.set_strpad(h5py.h5t.STR_NULLTERM)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    # As for all other data sets, so that equal contents are equal files.
    settings.set_obj_track_times(False)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, settings)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(raw, f"S{len(raw)}"), kind)


def _values(dataset: Dataset, kinds: str, path: Path) -> np.ndarray:
    """What a data set holds, after checks that it is in this file and can be as large as said."""
    h5py = _h5py()
    if not isinstance(dataset, h5py.Dataset):
        raise FormatError(f"{path}: {getattr(dataset, 'name', 'a data set')} is missing")
    who = f"{path}: {dataset.name}"
    if dataset.dtype.kind not in kinds:
        found = "strings" if h5py.check_string_dtype(dataset.dtype) else dataset.dtype
        raise FormatError(f"{who} holds {found}, expected {KINDS[kinds]}")
    if dataset.shape is None:
        raise FormatError(f"{who} holds nothing, expected {KINDS[kinds]}")
    if dataset.external or dataset.is_virtual:
        raise FormatError(f"{who} keeps its values in another file, expected them in this one")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > MOST_DEFLATED * (stored + 1):
        raise FormatError(f"{who} claims {dataset.nbytes} bytes, but the file has {stored} for it")
    return np.asarray(dataset[()])


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("reading and writing HDF5 files", "hdf5") from error
    return h5py
