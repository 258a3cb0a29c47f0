"""Attributes and object references of an HDF5 file; MATLAB's files of version 7.3 have both.

References lead to members of one group only, so that an object is found by its address without a
walk through the whole file. This module runs in the process that reads HDF5 files, see
:mod:`caffecompat.weights.hdf5_input.contents`.
"""

from __future__ import annotations

from math import prod
from typing import Any

import h5py
import numpy as np

from caffecompat.errors import FormatError
from caffecompat.weights.encodings.zip_checks import library_errors
from caffecompat.weights.hdf5_input.contents import KIND, Contents, StoredData

MAX_REFERENCES = 400_000
MAX_TEXT_BYTES = 256


def attribute(contents: Contents, name: str, key: str) -> str | int | None:
    """A text of fixed length or an integer; None if the object has no such attribute.

    Raises:
        FormatError: it is of another kind.
    """
    with library_errors(contents.path, KIND):
        found = contents.find(name)
        if found is None or not h5py.h5a.exists(found, key.encode()):
            return None
        opened = h5py.h5a.open(found, key.encode())
        kind = opened.get_type()
        dtype, count = np.dtype(kind.dtype), prod(opened.get_space().get_simple_extent_dims())
        fixed = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        if count != 1 or not (dtype.kind in "iu" or (fixed and dtype.itemsize <= MAX_TEXT_BYTES)):
            raise FormatError(
                f"{contents.path}: /{name.strip('/')} has an attribute {key} of an unusual kind"
            )
        value = np.empty((), dtype)
        opened.read(value, kind)
    if dtype.kind in "iu":
        return int(value)
    return bytes(value[()]).split(b"\0")[0].decode("latin-1")


class References:
    """The targets of references.

    Args:
        contents: an open file.
        group: the group whose members the references lead to.
    """

    def __init__(self, contents: Contents, group: str) -> None:
        self._contents = contents
        self._names: dict[int, str] = {}
        for member in contents.members(group):
            with library_errors(contents.path, KIND):
                name = f"{group}/{member}"
                self._names[_address(contents.find(name))] = name

    def read(self, name: str) -> tuple[tuple[int, ...], list[str | None]]:
        """The shape of a data set of references, and the names that they lead to; None for nothing.

        Raises:
            FormatError: it holds something else, or a reference leads elsewhere.
        """
        contents = self._contents
        with library_errors(contents.path, KIND):
            data_set = contents.find(name)
            who = f"{contents.path}: /{name.strip('/')}"
            if not is_references(data_set):
                raise FormatError(f"{who} holds no references")
            shape = tuple(map(int, data_set.get_space().get_simple_extent_dims()))
            count = prod(shape)
            if count > MAX_REFERENCES:
                raise FormatError(f"{who} holds {count:,} references, more than {MAX_REFERENCES:,}")
            dtype = np.dtype(data_set.get_type().dtype)
            contents.check_storage(data_set, StoredData(shape, dtype, False), who)
            values = np.empty(shape, dtype)
            if count:
                data_set.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
            names = [self._target(value, who) for value in values.reshape(-1)]
        return shape, names

    def _target(self, value: Any, who: str) -> str | None:
        if not value:
            return None
        found = h5py.h5r.dereference(value, self._contents.file_id)
        name = self._names.get(_address(found)) if found is not None else None
        if name is None:
            raise FormatError(f"{who} refers to something that is not beside the other values")
        return name


def is_references(found: Any) -> bool:
    """Whether an object is a data set of references to objects."""
    return isinstance(found, h5py.h5d.DatasetID) and found.get_type().equal(h5py.h5t.STD_REF_OBJ)


def _address(found: Any) -> int:
    return int(h5py.h5o.get_info(found).addr)
