"""Weight files, solver states and means."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffecompat.cli.inspection.definitions import (
    NAME,
    NET_COLUMNS,
    PARAMETERS,
    SHAPES,
    TYPE,
    net_cells,
)
from caffecompat.cli.shapes import description_options, print_notes
from caffecompat.input_files import PathLike
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted, format_shape

if TYPE_CHECKING:
    from caffecompat.net import Net
    from caffecompat.weights.description import BlobEntry, Description

LAYER_COLUMNS = (NAME, TYPE, SHAPES, Column("stored as", rank=4), PARAMETERS)
_NUMBERS = tuple(Column(title, right=True) for title in ("min", "mean", "max", "NaN"))


def print_weights(arguments: argparse.Namespace, path: Path) -> None:
    """Prints the layers of a weight file, a solver state or a mean, as ``arguments`` say."""
    from caffecompat.weights.description import WEIGHTS, describe_file

    naming, limit = _naming(path), arguments.max_bytes
    description = describe_file(path, values=arguments.values, naming=naming, max_bytes=limit)
    print(f"format: {description.title}")
    if description.kind == WEIGHTS:
        _print_layers(description, arguments)
    for name, value in description.facts:
        print(printable(f"{name}: {value}"))
    if description.arrays:
        _print_arrays(description.arrays)


def _naming(path: Path) -> Any:
    """The spelling of layer names in state dicts, loaded for such files only."""
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        return None
    from caffecompat.net.parameters.state_dict_names import torch_naming

    return torch_naming()


def _print_layers(description: Description, arguments: argparse.Namespace) -> None:
    net = _net(arguments.model, arguments) if arguments.model else None
    if description.net_name:
        print(printable(f"net: {description.net_name}"))
    with_blobs = sum(1 for layer in description.layers if layer.blobs)
    print(
        f"layers: {len(description.layers)}, {with_blobs} with parameters; "
        f"parameters: {description.parameters:,}"
    )
    print()
    more = net_cells(net) if net is not None else {}
    rows = []
    for layer in description.layers:
        row = (
            layer.name,
            layer.type,
            " ".join(format_shape(blob.shape) for blob in layer.blobs),
            " ".join(dict.fromkeys(blob.stored for blob in layer.blobs)),
            f"{layer.parameters:,}" if layer.parameters else "",
        )
        rows.append(row + (more.get(layer.name, ("", "", "")) if more else ()))
    print_table(LAYER_COLUMNS + (NET_COLUMNS if more else ()), rows)
    old = sum(1 for layer in description.layers for blob in layer.blobs if blob.legacy)
    if old:
        have = f"{counted(old, 'blob')} {'has' if old == 1 else 'have'}"
        print(f"# {have} the old sizes num, channels, height, width; shown as today's")
    if arguments.values:
        print()
        _print_values(description)
    if net is not None:
        _print_fit(net, arguments)


def _print_values(description: Description) -> None:
    rows = []
    for layer in description.layers:
        for index, blob in enumerate(layer.blobs):
            rows.append((layer.name, str(index), *_numbers(blob)))
    print_table((NAME, Column("blob", right=True), *_NUMBERS), rows)


def _numbers(blob: BlobEntry) -> tuple[str, str, str, str]:
    values = blob.values
    if values is None:
        return ("", "", "", "")
    minimum, mean, maximum = (f"{v:.6g}" for v in (values.minimum, values.mean, values.maximum))
    return (minimum, mean, maximum, str(values.nans) if values.nans else "")


def _print_arrays(arrays: list[BlobEntry]) -> None:
    rows: list[tuple[str, ...]] = []
    for index, array in enumerate(arrays):
        rows.append((str(index), format_shape(array.shape), *_numbers(array)))
    columns: tuple[Column, ...] = (Column("array", right=True), Column("shape"))
    if arrays[0].values is not None:
        columns += _NUMBERS
    print()
    print_table(columns, [row[: len(columns)] for row in rows])


def _print_fit(net: Net, arguments: argparse.Namespace) -> None:
    """Prints whether the weights fit the net, and what to do if they do not."""
    report = net.load_weights(arguments.file, on_mismatch="skip", lenient=True)
    print(f"\nin {printable(arguments.model)}:")
    for line in report.fit_sentences():
        print(f"  {printable(line)}")


def _net(path: PathLike, arguments: argparse.Namespace) -> Net:
    from caffecompat.net import Net

    net = Net(path, phase=arguments.phase, options=description_options(arguments))
    print_notes(net.notes)
    return net
