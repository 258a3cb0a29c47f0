"""MAT files of version 7.3, which are HDF5 files: numbers, text, cells and structs.

Each variable is an object with the attribute MATLAB_class. Arrays have their axes in reverse order;
text is 16-bit numbers. The entries of a cell, and of each field of a struct array, are references
to members of the group #refs#; a single struct is a group with a member for each field. An empty
array has the attribute MATLAB_empty and its extents as values. The file is read in a process of its
own, by the rules for untrusted HDF5 files. Source: MathWorks' description of version 7.3, and files
that MATLAB has written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.errors import FormatError
from caffecompat.weights.hdf5_input.hdf5_file import HDF5File, open_hdf5
from caffecompat.weights.hdf5_input.process import DATA_SET, GROUP

REFERENCES = "#refs#"
CLASS, EMPTY, SPARSE = "MATLAB_class", "MATLAB_empty", "MATLAB_sparse"
NUMBERS = {
    *("double", "single", "logical"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
MAX_DEPTH, MAX_ELEMENTS = 32, 400_000


def read_mat_hdf5(path: Path, max_bytes: int | None = None) -> dict[str, Any]:
    """The variables of a MAT file of version 7.3, as :func:`mat_file.read_mat` gives them.

    Raises:
        FileProblem: the file cannot be read.
        FormatError: it is damaged, or claims more than the limit.
    """
    with open_hdf5(path, max_bytes) as file:
        reader = _Reader(file)
        names = [name for name in file.members() if not name.startswith("#")]
        return {name: reader.value(name, 0) for name in names}


class _Reader:
    def __init__(self, file: HDF5File) -> None:
        self._file = file
        self._elements = 0
        # Values of #refs# that have been read, and None while they are: many references may lead to
        # one value, but none back to where it comes from.
        self._read: dict[str, Any] = {}

    def value(self, name: str, depth: int) -> Any:
        """The value of an object: an array, text, a cell as a list, a struct as a list of dicts."""
        self._count(name, depth)
        kind = self._file.attribute(name, CLASS)
        if self._file.attribute(name, SPARSE) is not None:
            kind = "sparse"
        if self._file.attribute(name, EMPTY):
            return self._empty(name, kind)
        if kind == "struct":
            return self._struct(name, depth)
        if kind == "cell":
            return self._targets(name, depth)
        if kind == "char":
            return self._text(name)
        if kind in NUMBERS:
            return self._file.read(name, "fiub").T
        raise self._error(
            name,
            f"is of class {kind!r}, not numbers, text, a cell or a struct, which nets are made of",
        )

    def _count(self, name: str, depth: int) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise FormatError(
                f"{self._file.path}: this MAT file has more than {MAX_ELEMENTS:,} elements"
            )
        if depth > MAX_DEPTH:
            raise self._error(name, f"lies more than {MAX_DEPTH} cells and structs deep")

    def _empty(self, name: str, kind: str | int | None) -> Any:
        """An empty value; the extents that are stored for it do not matter."""
        return {"char": "", "cell": [], "struct": []}.get(str(kind), np.zeros((0, 0)))

    def _struct(self, name: str, depth: int) -> list[dict[str, Any]]:
        """One struct, whose fields are members of a group, or an array of them."""
        if self._file.kind(name) != GROUP:
            raise self._error(name, "is a struct without fields")
        fields = self._file.members(name)
        paths = [f"{name}/{field}" for field in fields]
        if fields and all(self._is_column(path) for path in paths):
            columns = [self._targets(path, depth) for path in paths]
            if len({len(column) for column in columns}) != 1:
                raise self._error(name, "is a struct array whose fields differ in length")
            return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]
        return [{f: self.value(path, depth + 1) for f, path in zip(fields, paths, strict=True)}]

    def _is_column(self, name: str) -> bool:
        """Whether a member of a struct's group has a field's values of all elements."""
        return self._file.kind(name) == DATA_SET and self._file.attribute(name, CLASS) is None

    def _targets(self, name: str, depth: int) -> list[Any]:
        """The values that references lead to, column by column."""
        found = self._file.references(name, REFERENCES)
        return [np.zeros((0, 0)) if t is None else self._target(t, depth + 1) for t in found]

    def _target(self, name: str, depth: int) -> Any:
        if name not in self._read:
            self._read[name] = None
            self._read[name] = self.value(name, depth)
        if self._read[name] is None:
            raise self._error(name, "contains itself")
        return self._read[name]

    def _text(self, name: str) -> str:
        codes = self._file.read(name, "iu").T.reshape(-1, order="F")
        return codes.astype("<u2").tobytes().decode("utf-16-le", "replace")

    def _error(self, name: str, found: str) -> FormatError:
        return FormatError(f"{self._file.path}: /{name} of this MAT file {found}")
