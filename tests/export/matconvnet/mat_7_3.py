"""MAT files of version 7.3 as MATLAB writes them: HDF5 behind a block of 512 bytes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np

USER_BLOCK = 512
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2018 HDF5 schema"
NUMBERS = itertools.count()
CLASSES = {"float64": "double", "float32": "single", "bool": "logical"}


class StructArray(list[dict[str, Any]]):
    """Elements of a struct array; a list is a cell."""


def save_mat(path: Path, variables: dict[str, Any]) -> Path:
    """Writes arrays, numbers, texts, cells (lists), structs (dicts) and struct arrays."""
    with h5py.File(path, "w", userblock_size=USER_BLOCK) as file:
        for name, value in variables.items():
            put(file, file, name, value)
    finish(path)
    return path


def finish(path: Path) -> None:
    """Writes the block before the HDF5 file."""
    with path.open("r+b") as raw:
        raw.write(HEADER.ljust(124) + b"\x00\x02IM")


def put(file: Any, group: Any, name: str, value: Any) -> Any:
    if isinstance(value, StructArray):
        made = group.create_group(name)
        for field in value[0]:
            made.create_dataset(field, data=references(file, [one[field] for one in value]))
        return marked(made, "struct")
    if isinstance(value, dict):
        made = group.create_group(name)
        for field, inner in value.items():
            put(file, made, field, inner)
        return marked(made, "struct")
    if isinstance(value, list):
        if not value:
            return empty(group, name, "cell", (0, 0))
        return marked(group.create_dataset(name, data=references(file, value)), "cell")
    if isinstance(value, str):
        if not value:
            return empty(group, name, "char", (0, 0))
        codes = np.frombuffer(value.encode("utf-16-le"), np.uint16).reshape(-1, 1)
        return marked(group.create_dataset(name, data=codes), "char", MATLAB_int_decode=np.int32(2))
    return numbers(group, name, np.asarray(value))


def numbers(group: Any, name: str, array: np.ndarray) -> Any:
    kind = CLASSES.get(array.dtype.name, array.dtype.name)
    array = np.atleast_2d(array)
    if not array.size:
        return empty(group, name, kind, array.shape)
    stored = array.astype(np.uint8) if kind == "logical" else array
    packed = {"chunks": True, "compression": "gzip"} if array.size > 100 else {}
    return marked(group.create_dataset(name, data=stored.T, **packed), kind)


def references(file: Any, values: list[Any]) -> np.ndarray:
    """References to new members of #refs#, as a row of MATLAB's."""
    group = file.require_group("#refs#")
    found = np.empty((len(values), 1), h5py.ref_dtype)
    for index, value in enumerate(values):
        found[index, 0] = put(file, group, f"r{next(NUMBERS)}", value).ref
    return found


def empty(group: Any, name: str, kind: str, shape: tuple[int, ...]) -> Any:
    made = group.create_dataset(name, data=np.array(shape, np.uint64))
    return marked(made, kind, MATLAB_empty=np.uint8(1))


def marked(made: Any, kind: str, **more: Any) -> Any:
    made.attrs["MATLAB_class"] = np.bytes_(kind)
    for name, value in more.items():
        made.attrs[name] = value
    return made
