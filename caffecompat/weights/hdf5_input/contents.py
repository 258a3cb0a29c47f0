"""The contents of an HDF5 file, checked before the HDF5 library reads values.

The library follows links and external storage to any file of the machine, runs filters that read
outside their buffers, and unpacks terabytes from a kilobyte. Caffe's files need few features; all
others are refused by the file's metadata. This module runs in a separate process
(:mod:`caffecompat.weights.hdf5_input.process`), because the library can crash when it opens a
damaged file.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from caffecompat.errors import FormatError
from caffecompat.input_files import ClaimedBytes
from caffecompat.weights.encodings.zip_checks import MAX_DEFLATED, library_errors
from caffecompat.weights.hdf5_input.process import DATA_SET, GROUP, SIGNATURE
from caffecompat.weights.mapped import check_file

KIND = "an HDF5 file"
NAMED_TYPE = "named type"

# More than the layers of any net; each member takes memory.
MAX_MEMBERS = 50_000
MAX_AXES = 32
# The library's own limit; smaller sizes may be damaged, too.
MAX_CHUNK_BYTES = 2**32 - 1
# Deflate and shuffle stay within the chunk; fletcher32 reads before the start of a short one.
HARMLESS_FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE)
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
# Larger arrays are read in slabs of about this many bytes.
SLAB = 16 << 20
# Bytes per value in memory, at least: values are used as float32.
MIN_WIDTH = 4


class StoredData(NamedTuple):
    """The metadata of a data set.

    Attributes:
        shape: its extents; None for a null data space, which has no values.
        dtype: of the stored values.
        variable: whether it has strings of variable length.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype
    variable: bool


class Contents:
    """An open HDF5 file.

    Names are paths from the root with slashes between their parts.

    Args:
        path: the file.
        name: its name in messages.
        max_bytes: the limit for all values read from it; None for four times its size plus 64 MiB.
        remedy: the end of messages about that limit; None for the advice of a higher one.

    Raises:
        FileProblem, FormatError: in the constructor and in all methods.
    """

    def __init__(
        self, path: str, name: str, max_bytes: int | None = None, remedy: str | None = None
    ) -> None:
        self.path = Path(name)
        self.size = check_file(path, max_bytes)
        self._claimed = ClaimedBytes(name, self.size, max_bytes, remedy, self._most)
        self.limit = self._claimed.limit
        # The targets of references, once they were asked for.
        self.references: Any = None
        with library_errors(self.path, KIND if _is_signed(path) else "no HDF5 file, or one"):
            self._file = h5py.File(path, "r")

    @property
    def file_id(self) -> Any:
        """The library's own object for the file."""
        return self._file.id

    def close(self) -> None:
        with library_errors(self.path, KIND):
            self._file.close()

    def kind(self, name: str) -> str | None:
        """GROUP, DATA_SET or NAMED_TYPE; None if the name does not exist."""
        with library_errors(self.path, KIND):
            found = self.find(name)
        if found is None:
            return None
        if isinstance(found, h5py.h5g.GroupID):
            return GROUP
        return DATA_SET if isinstance(found, h5py.h5d.DatasetID) else NAMED_TYPE

    def members(self, name: str) -> list[str]:
        """The names in a group, in HDF5's order."""
        with library_errors(self.path, KIND):
            group = self.find(name)
            if not isinstance(group, h5py.h5g.GroupID):
                raise FormatError(f"{self.path}: /{name} is not a group")
            count = group.get_num_objs()
            if count > MAX_MEMBERS:
                raise FormatError(
                    f"{self.path}: /{name} holds {count:,} members, more than {MAX_MEMBERS:,}"
                )
            return [member.decode("utf-8", "surrogateescape") for member in group]

    def describe(self, name: str) -> StoredData:
        """The metadata of a data set; no values are read."""
        with library_errors(self.path, KIND):
            return self._describe(self._data_set(name))

    def check(self, name: str) -> None:
        """Raises the errors of :meth:`read` without reading values."""
        with library_errors(self.path, KIND):
            data_set = self._data_set(name)
            self._check(data_set, self._describe(data_set), name)

    def read(self, name: str) -> tuple[StoredData, Iterator[np.ndarray]]:
        """Reads a data set of numbers or of strings of fixed length, after all checks.

        Returns:
            its metadata, and its values in C order, in one or several pieces.
        """
        with library_errors(self.path, KIND):
            data_set = self._data_set(name)
            described = self._describe(data_set)
            self._check(data_set, described, name)
        return described, self._values(data_set, described)

    def nbytes(self, described: StoredData) -> int:
        """The size of the values in bytes."""
        return prod(described.shape or ()) * described.dtype.itemsize

    def find(self, name: str) -> Any:
        """The object of that name, through hard links only; None if it does not exist."""
        found = h5py.h5o.open(self._file.id, b"/")
        for part in name.strip("/").split("/") if name.strip("/") else ():
            key = part.encode("utf-8", "surrogateescape")
            inside = isinstance(found, h5py.h5g.GroupID) and part != "."
            if not inside or b"\0" in key or not found.links.exists(key):
                return None
            if found.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                raise FormatError(
                    f"{self.path}: /{name.strip('/')} is a soft or external link, expected contents"
                )
            found = h5py.h5o.open(found, key)
        return found

    def _data_set(self, name: str) -> Any:
        found = self.find(name)
        if not isinstance(found, h5py.h5d.DatasetID):
            raise FormatError(f"{self.path}: /{name} is missing or no data set")
        return found

    def _describe(self, data_set: Any) -> StoredData:
        kind = data_set.get_type()
        variable = isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
        space = data_set.get_space()
        empty = space.get_simple_extent_type() == h5py.h5s.NULL
        shape = None if empty else tuple(map(int, space.get_simple_extent_dims()))
        return StoredData(shape, np.dtype(kind.dtype), bool(variable))

    def _check(self, data_set: Any, described: StoredData, name: str) -> None:
        """Refuses data sets that Caffe's files do not have, before memory is allocated."""
        who = f"{self.path}: /{name.strip('/')}"
        shape, dtype, variable = described
        if variable or dtype.kind not in "fiubS" or dtype.shape or not dtype.itemsize:
            raise FormatError(f"{who} holds {'strings' if variable else dtype}, expected numbers")
        if shape is None:
            raise FormatError(f"{who} holds nothing, expected numbers")
        if len(shape) > MAX_AXES:
            raise FormatError(f"{who} has {len(shape)} axes, expected at most {MAX_AXES}")
        # Then the library converts nothing, and its converters never see a damaged type.
        kind = data_set.get_type()
        if dtype.kind != "S" and not kind.equal(h5py.h5t.py_create(dtype, logical=True)):
            raise FormatError(f"{who} holds {dtype} in an unusual encoding, which is not read here")
        self.check_storage(data_set, described, who)

    def check_storage(self, data_set: Any, described: StoredData, who: str) -> None:
        """Refuses values in other files, packed by other filters, or larger than is allowed."""
        settings = data_set.get_create_plist()
        layout = settings.get_layout()
        if settings.get_external_count() or layout not in LAYOUTS:
            raise FormatError(f"{who} keeps its values in another file, expected them in this one")
        for index in range(settings.get_nfilters()):
            number = settings.get_filter(index)[0]
            if number not in HARMLESS_FILTERS:
                raise FormatError(
                    f"{who} is packed with the filter number {number}; only gzip and shuffle are "
                    f"read here; write the file without it ({_unpacking(number)})"
                )
        if layout == h5py.h5d.CHUNKED:
            self._check_chunk(settings.get_chunk(), described, who)
        size, stored = self.nbytes(described), int(data_set.get_storage_size())
        if size > MAX_DEFLATED * (stored + 1):
            raise FormatError(f"{who} claims {size} bytes, but the file has {stored} for it")
        self._claimed.add(_memory(described), who.removeprefix(f"{self.path}: "))

    def _most(self) -> int:
        """The memory of what was counted before and of all data sets, for the advice of a limit."""
        sizes = [0]

        def count(_: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                stored = int(found.id.get_storage_size())
                sizes.append(
                    min(_memory(self._describe(found.id)), MIN_WIDTH * MAX_DEFLATED * stored)
                )

        self._file.visititems(count)
        return self._claimed.total + sum(sizes)

    def _check_chunk(self, chunk: tuple[int, ...], described: StoredData, who: str) -> None:
        size = prod(chunk) * described.dtype.itemsize
        rank = len(described.shape or ())
        if len(chunk) != rank or not 0 < size <= MAX_CHUNK_BYTES:
            raise FormatError(f"{who} is stored in chunks of {chunk}, which cannot be")
        if size > self.limit:
            raise FormatError(
                f"{who} is stored in chunks of {size:,} bytes, more than the limit of "
                f"{self.limit:,}; {self._claimed.remedy(size)}"
            )

    def _values(self, data_set: Any, described: StoredData) -> Iterator[np.ndarray]:
        shape, dtype, _ = described
        kind = data_set.get_type()
        for first, count in slabs(shape or (), dtype.itemsize, _chunk_rows(data_set)):
            piece = np.empty((count, *(shape or ())[1:]) if shape else (), dtype)
            with library_errors(self.path, KIND):
                space = data_set.get_space()
                if shape:
                    start = (first, *(0,) * (len(shape) - 1))
                    space.select_hyperslab(start, piece.shape)
                memory = h5py.h5s.create_simple(piece.shape)
                data_set.read(memory, space, piece, kind)
            yield piece


def _memory(described: StoredData) -> int:
    return prod(described.shape or ()) * max(described.dtype.itemsize, MIN_WIDTH)


def _unpacking(number: int) -> str:
    """How to write a file without one of its filters."""
    if number < h5py.h5z.FILTER_RESERVED:
        return "h5repack -f NONE old.h5 new.h5"
    return "with the program that packed it: h5repack does not have this filter"


def _is_signed(path: str) -> bool:
    """Whether a file begins with HDF5's signature; MATLAB's files have other bytes before it."""
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def _chunk_rows(data_set: Any) -> int:
    settings = data_set.get_create_plist()
    chunked = settings.get_layout() == h5py.h5d.CHUNKED
    return int(settings.get_chunk()[0]) if chunked else 1


def slabs(shape: tuple[int, ...], width: int, chunk_rows: int = 1) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each piece in which an array is read.

    A piece has about SLAB bytes and consists of whole chunks, so that no chunk is unpacked twice.
    """
    if not shape:
        yield 0, 1
        return
    if not prod(shape):
        return
    row = prod(shape[1:]) * width
    rows = max(1, SLAB // row)
    rows = -(-rows // chunk_rows) * chunk_rows
    for first in range(0, shape[0], rows):
        yield first, min(rows, shape[0] - first)
