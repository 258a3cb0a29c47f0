"""NumPy archives with one array per blob, named ``layer/index``."""

from __future__ import annotations

import re
import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.input_files import open_input
from caffecompat.output_files import atomic_write
from caffecompat.weights.array_names import current_blobs
from caffecompat.weights.encodings.npy import read_npy_header
from caffecompat.weights.encodings.zip_checks import library_errors, zip_archive, zip_names
from caffecompat.weights.format import LayerFormat, formats
from caffecompat.weights.weights import LayerWeights, Weights, as_float32

# The order in the archive is the order of the layers; layer names may have slashes.
KEY = re.compile(r"(.*)/(\d{1,6})\.npy", re.DOTALL)
CHUNK = 1 << 20


@formats.register("npz")
class Npz(LayerFormat):
    """``.npz``: layers and blobs only; types, wiring and gradients are not stored.

    Among layers of one name the last is written, which is the one that Caffe uses. Blobs with the
    legacy four sizes get their current shape.
    """

    suffixes = (".npz",)

    def sniff(self, head: bytes, path: Path) -> bool:
        if not head.startswith(b"PK\x03\x04"):
            return False
        return any(name.endswith(".npy") for name in zip_names(path) or ())

    def read(self, path: Path) -> Weights:
        layers: dict[str, dict[int, tuple[np.ndarray, str]]] = {}
        with (
            open_input(path, self.max_bytes) as source,
            library_errors(path, "an .npz"),
            zip_archive(path, source, self.max_bytes) as archive,
        ):
            for entry in archive.infolist():
                name, index = _key(entry.filename, path)
                layers.setdefault(name, {})[index] = _read_array(archive, entry, path)
        return Weights(
            [_layer(name, arrays, path) for name, arrays in layers.items()],
            path=str(path),
            format="npz",
        )

    def write(self, weights: Weights, path: Path) -> None:
        with (
            atomic_write(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        ):
            for layer in weights.values():
                for index, blob in enumerate(current_blobs(layer)):
                    _write_array(archive, f"{layer.name}/{index}.npy", blob, path)


def _key(name: str, path: Path) -> tuple[str, int]:
    match = KEY.fullmatch(name)
    if not match:
        key = name.removesuffix(".npy")
        raise FormatError(f"{path}: array {key!r}: expected keys of the form layer/index")
    return match[1], int(match[2])


def _layer(name: str, arrays: dict[int, tuple[np.ndarray, str]], path: Path) -> LayerWeights:
    if sorted(arrays) != list(range(len(arrays))):
        raise FormatError(
            f"{path}: layer {name!r} has the arrays {sorted(arrays)}, expected 0 to "
            f"{len(arrays) - 1} without a gap"
        )
    blobs, stored = zip(*(arrays[index] for index in range(len(arrays))), strict=True)
    return LayerWeights(name, blobs=list(blobs), stored=list(stored))


def _read_array(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path
) -> tuple[np.ndarray, str]:
    """The array as float32, and the name of the type that it has in the file."""
    with archive.open(entry) as file:
        shape, fortran, dtype = read_npy_header(file)
        who = f"{path}: array {entry.filename.removesuffix('.npy')!r}"
        if dtype.kind not in "fiu":
            raise FormatError(f"{who} holds {dtype}, expected numbers")
        size = prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size > entry.file_size:
            raise FormatError(
                f"{who} claims {shape} values of {dtype}, but the file has only "
                f"{entry.file_size} bytes for them"
            )
        values = np.empty(prod(shape), dtype)
        _fill(values, file, who)
    array = values.reshape(shape, order="F" if fortran else "C")
    stored = dtype.newbyteorder("=").name
    return np.ascontiguousarray(as_float32(array)).reshape(shape), stored


def _fill(values: np.ndarray, file: IO[bytes], who: str) -> None:
    """Reads in chunks, since reading a zip entry at once needs twice its memory."""
    remaining = values.view(np.uint8).data
    while remaining:
        chunk = file.read(min(len(remaining), CHUNK))
        if not chunk:
            raise FormatError(f"{who} is cut off: {len(remaining)} bytes are missing")
        remaining[: len(chunk)] = chunk
        remaining = remaining[len(chunk) :]


def _write_array(archive: zipfile.ZipFile, key: str, array: np.ndarray, path: Path) -> None:
    # A fixed date, so that equal weights give equal files.
    entry = zipfile.ZipInfo(key, date_time=(1980, 1, 1, 0, 0, 0))
    if entry.filename != key or not key.isprintable():
        raise WeightsError(f"{path}: {key!r} cannot be the name of an array in an .npz")
    with archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, as_float32(array), allow_pickle=False)
