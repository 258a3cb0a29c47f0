"""Files of named arrays: the results of an evaluation, as .npz or HDF5."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError, FileProblem, FormatError
from caffecompat.input_files import open_input
from caffecompat.output_files import PathLike, atomic_write, check_target, check_writable
from caffecompat.weights.encodings.zip_checks import library_errors, zip_archive
from caffecompat.weights.hdf5_input.hdf5_file import create_hdf5, open_hdf5

SUFFIXES = (".npz", ".h5", ".hdf5")
_HDF5 = SUFFIXES[1:]
_KINDS = "fiu"


def save_arrays(
    arrays: Mapping[str, NDArray[Any]], path: PathLike, hdf5: bool | None = None
) -> None:
    """Writes arrays of numbers or bytes, atomically.

    Args:
        arrays: by name.
        path: the file.
        hdf5: whether it is an HDF5 file, and not an .npz; None if the name ends in .h5 or .hdf5.

    Raises:
        FileProblem: the file cannot be written.
    """
    if _is_hdf5(path) if hdf5 is None else hdf5:
        with create_hdf5(Path(path)) as content:
            for name, array in arrays.items():
                content[name] = array
        return
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A fixed date, so that equal arrays give equal files.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def check_output(path: str) -> None:
    """Refuses a file that the results of an evaluation could not be written to, before it begins.

    Raises:
        DataError: the name does not tell the format.
        FileProblem: the folder is missing or not writable, or ``path`` is not a regular file.
    """
    if not path.lower().endswith(SUFFIXES):
        raise DataError(f"--output {path}: the name must end in .npz, .h5 or .hdf5")
    folder = check_target(path).parent
    if not folder.is_dir():
        raise FileProblem(f"{path}: there is no folder {folder}; make it first")
    check_writable(path)


def load_arrays(
    path: PathLike, names: Sequence[str], content: str, max_bytes: int | None = None
) -> dict[str, NDArray[Any]]:
    """Reads arrays that :func:`save_arrays` has written.

    Args:
        names: of the arrays.
        content: what the file should hold, for messages: "class posteriors, as ... writes them".
        max_bytes: the largest file to read, and the most that it may claim to hold.

    Raises:
        FileProblem: the file is missing or not readable.
        FormatError: it is damaged, lacks one of the arrays, or claims more than ``max_bytes``.
    """
    read = _read_hdf5 if _is_hdf5(path) else _read_npz
    return read(Path(path), names, content, max_bytes)


def text_array(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Texts as an array of bytes; :func:`texts_of` is the reverse."""
    return np.array([text.encode("utf-8", "surrogateescape") for text in texts], dtype="S")


def texts_of(array: NDArray[Any]) -> tuple[str, ...]:
    """The texts in an array of bytes."""
    return tuple(item.decode("utf-8", "surrogateescape") for item in array.tolist())


def json_array(value: Any) -> NDArray[np.bytes_]:
    """A JSON value as an array without axes; :func:`json_of` is the reverse."""
    return np.array(json.dumps(value, sort_keys=True).encode())


def json_of(array: NDArray[Any]) -> Any:
    """The JSON value in an array.

    Raises:
        ValueError: it holds no JSON.
    """
    return json.loads(bytes(array[()]))


def _is_hdf5(path: PathLike) -> bool:
    return Path(path).suffix.lower() in _HDF5


def _read_npz(
    path: Path, names: Sequence[str], content: str, max_bytes: int | None
) -> dict[str, NDArray[Any]]:
    with (
        open_input(path, max_bytes) as source,
        library_errors(path, "an .npz"),
        zip_archive(path, source, max_bytes) as archive,
    ):
        _check(path, names, {name.removesuffix(".npy") for name in archive.namelist()}, content)
        arrays = {}
        for name in names:
            with archive.open(f"{name}.npy") as member:
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


def _read_hdf5(
    path: Path, names: Sequence[str], content: str, max_bytes: int | None
) -> dict[str, NDArray[Any]]:
    with open_hdf5(path, max_bytes) as file:
        _check(path, names, set(file.members()), content)
        arrays = {}
        for name in names:
            described = file.describe(name)
            text = described is not None and described.kind == "S"
            arrays[name] = file.read(name, "S" if text else _KINDS)
    return arrays


def _check(path: Path, names: Sequence[str], found: set[str], content: str) -> None:
    missing = sorted(set(names) - found)
    if missing:
        raise FormatError(f"{path}: this file holds no {content}: it has no {', '.join(missing)}")
