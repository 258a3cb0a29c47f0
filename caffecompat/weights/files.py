"""Loading and saving of weight files; content decides the format of a read, suffix of a write."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caffecompat.errors import FormatError, UnknownName, WeightsError
from caffecompat.weights.array_names import NamedArrays, Naming, flatten, gather, unwrapped
from caffecompat.weights.file_type import SNAPSHOT_HINT, SOLVER_STATE, other_file_type
from caffecompat.weights.format import HEAD_BYTES, LayerFormat, NamedFormat, formats
from caffecompat.weights.mapped import read_head
from caffecompat.weights.weights import Weights, weights_of


def load_weights(
    path: str | os.PathLike[str], naming: Naming | None = None, max_bytes: int | None = None
) -> Weights:
    """Reads a weight file of any known format, whatever its name.

    Args:
        path: the file.
        naming: the naming scheme of state dicts of other programs.
        max_bytes: the limit for the size of the file and of its claimed content. By default a
            caffemodel may have any size, since it is mapped and not copied; files of other formats
            may claim four times their size plus 64 MiB.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged, above a limit, or of another type, which the message names.
    """
    path = Path(path)
    head = read_head(path, HEAD_BYTES)
    name = _format_of_content(head, path)
    if name is not None:
        return _read(name, path, naming, max_bytes)
    kind = other_file_type(head, path)
    if kind:
        hint = f"; {SNAPSHOT_HINT}" if kind == SOLVER_STATE else ""
        expected = f"expected weights ({', '.join(_suffixes())})"
        raise FormatError(f"{path}: this is {kind}; {expected}{hint}")
    # As in Caffe, an unrecognised file is parsed as protobuf; the error names the damaged byte.
    return _read("caffemodel", path, naming, max_bytes)


def read_named(path: str | os.PathLike[str], max_bytes: int | None = None) -> NamedArrays | None:
    """The arrays of a state dict by name, as the file has them; None for files of other formats.

    Raises:
        FileProblem, FormatError: as :func:`load_weights`.
    """
    path = Path(path)
    name = _format_of_content(read_head(path, HEAD_BYTES), path)
    reader = None if name is None else formats.find(name)()
    if not isinstance(reader, NamedFormat):
        return None
    reader.max_bytes = max_bytes
    return unwrapped(reader.read(path))


def save_weights(
    weights: Weights | Mapping[str, Sequence[Any]],
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word a caller looks for
    naming: Naming | None = None,
) -> None:
    """Writes ``weights`` to a file atomically.

    Args:
        weights: the weights, or arrays by layer name: ``{"conv1": [weight, bias]}``.
        path: the file; its suffix decides the format.
        format: the name of the format, to override the suffix ("caffemodel", "npz", ...).
        naming: the naming scheme, for state dicts.

    Raises:
        UnknownName: no format of that name or suffix.
        WeightsError: a layer's arrays do not match each other, or the format cannot store them or
            needs a ``naming``.
        FileProblem: the file cannot be written.
    """
    path = Path(path)
    if not isinstance(weights, Weights):
        weights = weights_of(weights, str(path))
    for layer in weights.layers:
        layer.check(str(path))
    writer = formats.find(format or format_of(path), str(path))()
    if writer.max_axes is not None:
        _refuse_axes(weights, path, writer.max_axes)
    if not writer.keeps_indices:
        _refuse_gaps(weights, path)
    if isinstance(writer, LayerFormat):
        writer.write(weights, path)
    elif naming is None:
        raise WeightsError(
            f"{path}: a state dict needs names for its arrays; pass a naming, or write a "
            ".caffemodel and take it to this form with caffecompat convert"
        )
    else:
        writer.write(flatten(weights, naming), path)


def _format_of_content(head: bytes, path: Path) -> str | None:
    """The name of the format of a file that begins with ``head``; None if none recognises it."""
    return next((name for name in formats if formats.find(name)().sniff(head, path)), None)


def _read(name: str, path: Path, naming: Naming | None, max_bytes: int | None) -> Weights:
    reader = formats.find(name)()
    reader.max_bytes = max_bytes
    if isinstance(reader, LayerFormat):
        return reader.read(path)
    weights = gather(unwrapped(reader.read(path)), naming, str(path))
    weights.format = name
    return weights


def _refuse_axes(weights: Weights, path: Path, most: int) -> None:
    for layer in weights.layers:
        for index, blob in enumerate(layer.blobs):
            if blob.ndim > most:
                raise WeightsError(
                    f"{path}: layer {layer.name!r}, blob {index} has {blob.ndim} axes, but Caffe's "
                    f"blobs have at most {most}; write .npz or .pt, or reshape it"
                )


def _refuse_gaps(weights: Weights, path: Path) -> None:
    for layer in weights.layers:
        if layer.indices is not None:
            raise WeightsError(
                f"{path}: layer {layer.name!r} has only its parameters "
                f"{', '.join(map(str, layer.indices))}, because it shares the others; only HDF5 "
                "can store that; pass the net definition, too (--model)"
            )


def format_of(path: Path) -> str:
    """The name of the format for a file name's suffix.

    Raises:
        UnknownName: no format has that suffix.
    """
    by_suffix = _suffixes()
    for suffix in sorted(by_suffix, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return by_suffix[suffix]
    raise UnknownName("weight file suffix", path.suffix, by_suffix, str(path))


def _suffixes() -> dict[str, str]:
    return {suffix: name for name in formats for suffix in formats.find(name).suffixes}
