"""Weight files of any format: the format is recognised by content and chosen by suffix."""

from __future__ import annotations

import os
from pathlib import Path

from caffecompat.errors import FormatError, UnknownName, WeightsError
from caffecompat.weights.array_names import Naming, flatten, gather
from caffecompat.weights.file_type import SNAPSHOT_HINT, SOLVER_STATE, foreign_kind
from caffecompat.weights.format import HEAD, LayerFormat, formats
from caffecompat.weights.mapped import read_head
from caffecompat.weights.weights import Weights


def load_weights(
    path: str | os.PathLike[str], naming: Naming | None = None, max_bytes: int | None = None
) -> Weights:
    """Reads a weight file of any known format, whatever its name.

    Args:
        path: the file.
        naming: how state dicts that were not written here spell layer names.
        max_bytes: the largest file to accept, and the most that it may claim to hold. Without it
            a caffemodel may be of any size, since it is mapped and not copied; of the other
            formats a file may claim four times its size plus 64 MiB.

    Raises:
        FileProblem: missing, a folder, or unreadable.
        FormatError: empty, damaged or of another kind, which the message names; or above a limit.
    """
    path = Path(path)
    head = read_head(path, HEAD)
    for name in formats:
        if formats.find(name)().sniff(head, path):
            return _read(name, path, naming, max_bytes)
    kind = foreign_kind(head, path)
    if kind:
        hint = f"; {SNAPSHOT_HINT}" if kind == SOLVER_STATE else ""
        expected = f"expected weights ({', '.join(_suffixes())})"
        raise FormatError(f"{path}: this is {kind}; {expected}{hint}")
    # As in Caffe, what is nothing else is read as a protobuf: its error names the damaged byte.
    return _read("caffemodel", path, naming, max_bytes)


def save_weights(
    weights: Weights,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word a caller looks for
    naming: Naming | None = None,
) -> None:
    """Writes ``weights`` to a file, which is either complete or not there.

    Args:
        weights: what to write.
        path: the file; its suffix chooses the format.
        format: a format's name where the suffix does not say it ("caffemodel", "npz", ...).
        naming: the names of the arrays, for state dicts.

    Raises:
        UnknownName: no format of that name or suffix.
        WeightsError: a layer's arrays do not match each other, or the format cannot hold them or
            needs a ``naming``.
        FileProblem: the file cannot be written.
    """
    path = Path(path)
    for layer in weights.layers:
        layer.check(str(path))
    writer = formats.find(format or format_of(path), str(path))()
    if writer.most_axes is not None:
        _refuse_axes(weights, path, writer.most_axes)
    if not writer.keeps_indices:
        _refuse_gaps(weights, path)
    if isinstance(writer, LayerFormat):
        writer.write(weights, path)
    elif naming is None:
        raise WeightsError(f"{path}: a state dict needs names for its arrays; give a naming")
    else:
        writer.write(flatten(weights, naming), path)


def _read(name: str, path: Path, naming: Naming | None, max_bytes: int | None) -> Weights:
    reader = formats.find(name)()
    reader.max_bytes = max_bytes
    if isinstance(reader, LayerFormat):
        return reader.read(path)
    weights = gather(reader.read(path), naming, str(path))
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
                "can say so; give the net definition too (--model)"
            )


def format_of(path: Path) -> str:
    """The name of the format that a file name's suffix chooses.

    Raises:
        UnknownName: none.
    """
    by_suffix = _suffixes()
    for suffix in sorted(by_suffix, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return by_suffix[suffix]
    raise UnknownName("weight file suffix", path.suffix, by_suffix, str(path))


def _suffixes() -> dict[str, str]:
    return {suffix: name for name in formats for suffix in formats.find(name).suffixes}
