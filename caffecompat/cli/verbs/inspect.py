"""``caffecompat inspect``: the content of a model, a definition, a solver state or a mean."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffecompat.cli.arguments import (
    add_dialect_argument,
    add_max_bytes_argument,
    add_state_arguments,
    stages,
)
from caffecompat.cli.shapes import add_shape_argument, describe, print_notes
from caffecompat.input_files import (
    STANDARD_INPUT,
    PathLike,
    StandardInput,
    path_or_standard_input,
)
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted, format_shape

if TYPE_CHECKING:
    from caffecompat.layers import BuildOptions
    from caffecompat.net import Net
    from caffecompat.net.structure import NetStructure
    from caffecompat.weights.description import BlobEntry, Description

HELP = "describe a file: format, layers, shapes, values, and whether it is a published model"
EXAMPLE = """  caffecompat inspect VGG_ILSVRC_16_layers.caffemodel
  caffecompat inspect --values --model prototxt/D_deploy.prototxt vgg16.caffemodel
  caffecompat inspect prototxt/D_deploy.prototxt"""

_IMAGE_LINE = re.compile(
    r"[^\"'#{}]+\.(jpe?g|png|bmp|gif|tiff?|webp|p[gpb]m)([ \t,;]+\S+)?\s*", re.IGNORECASE
)
_LINES_LOOKED_AT = 50
_LONGEST_LINE = 8192
_MOST_DATA_SETS = 1000
_NAME = Column("layer", shortens=True, is_name=True)
_TYPE = Column("type", shortens=True)
_SHAPES = Column("parameter shapes", shortens=True, rank=2)
_PARAMETERS = Column("parameters", right=True)
LAYER_COLUMNS = (_NAME, _TYPE, _SHAPES, Column("stored as", rank=4), _PARAMETERS)
NET_COLUMNS = (
    Column("top shapes", shortens=True),
    Column("multiply-adds", right=True, rank=3),
    Column("receptive field", rank=1),
)
_NUMBERS = tuple(Column(title, right=True) for title in ("min", "mean", "max", "NaN"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        help="caffemodel, HDF5 weights, npz, state dict, solver state, mean binaryproto, or "
        "prototxt; its kind is recognised by content; for a database or a list of images the "
        "command that reads it is shown; - for a prototxt from standard input",
    )
    parser.add_argument(
        "--model", help="net definition; adds its top shapes, multiply-adds, receptive fields"
    )
    parser.add_argument(
        "--values", action="store_true", help="add min, mean, max and the number of NaNs"
    )
    parser.add_argument(
        "--hash",
        action="store_true",
        help="print the file's SHA-256 (files of a published one's size are always hashed)",
    )
    parser.add_argument(
        "--phase", default="TEST", help="of a definition: TRAIN or TEST (default: %(default)s)"
    )
    add_shape_argument(parser)
    add_state_arguments(parser)
    add_dialect_argument(parser)
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.data.backends.database import guess_backend
    from caffecompat.weights.description import OTHER, WEIGHTS, describe_file, file_kind
    from caffecompat.weights.known_files import file_hash
    from caffecompat.weights.mapped import check_file, read_head

    if arguments.file == STANDARD_INPUT:
        return _inspect_standard_input(arguments)
    path = Path(arguments.file)
    if path.is_dir() and (backend := guess_backend(path)):
        article = "an" if backend == "LMDB" else "a"
        print(f"{printable(str(path))}: a folder with {article} {backend} database")
        print(f"what is in it: caffecompat dataset info {shlex.quote(str(path))}")
        return 0
    print(f"{printable(str(path))}: {check_file(path, arguments.max_bytes):,} bytes")
    _print_recognition(path)
    if arguments.hash:
        print(f"sha256: {file_hash(path)}")
    if data_sets := _data_sets(path, arguments.max_bytes):
        print(
            "format: HDF5, data for HDF5Data layers, whose tops have the names of the data sets\n"
        )
        print_table((Column("data set", is_name=True), Column("shape")), data_sets)
        return 0
    if file_kind(path) == OTHER and _is_image_list(_text(read_head(path))):
        _inspect_image_list(path, arguments.max_bytes)
        return 0
    if file_kind(path) == OTHER and _is_definition(text := _text(read_head(path))):
        _inspect_definition(arguments, text)
        return 0
    naming, limit = _naming(path), arguments.max_bytes
    description = describe_file(path, values=arguments.values, naming=naming, max_bytes=limit)
    print(f"format: {description.title}")
    if description.kind == WEIGHTS:
        _print_layers(description, arguments)
    for name, value in description.facts:
        print(printable(f"{name}: {value}"))
    if description.arrays:
        _print_arrays(description.arrays)
    return 0


def _inspect_standard_input(arguments: argparse.Namespace) -> int:
    from caffecompat.errors import FormatError

    given = path_or_standard_input(arguments.file, arguments.max_bytes)
    assert isinstance(given, StandardInput)
    print(f"{os.fspath(given)}: {len(given.data):,} bytes")
    if not _is_definition(text := _text(given.data)):
        raise FormatError(
            "standard input: this is no prototxt; files of other kinds are inspected by their names"
        )
    arguments.file = given
    _inspect_definition(arguments, text)
    return 0


def _inspect_image_list(path: Path, max_bytes: int | None) -> None:
    from caffecompat.data.sources.image_list import read_list
    from caffecompat.errors import DataError

    try:
        labels = [entry.label for entry in read_list(str(path), max_bytes=max_bytes)]
    except DataError as error:
        print("format: text, a list of images")
        print(printable(str(error)))
        return
    print(
        f"format: text, a list of {counted(len(labels), 'image')} with labels from "
        f"{min(labels)} to {max(labels)}, for convert-imageset and ImageData layers"
    )
    target = shlex.quote(f"{path.stem}_lmdb")
    print(
        "to make a database of them: caffecompat convert-imageset --encoded "
        f"{shlex.quote(_image_root(path))} {shlex.quote(str(path))} {target}"
    )


def _image_root(path: Path) -> str:
    """The folder that the names of a list start from, if it is this one or the list's own."""
    from caffecompat.weights.mapped import read_head

    first = os.fsdecode(read_head(path, _LONGEST_LINE)).splitlines()[0].rpartition(" ")[0]
    beside = os.path.join(path.parent, "")
    return next((root for root in ("./", beside) if os.path.isfile(root + first)), "ROOT/")


def _data_sets(path: Path, max_bytes: int | None) -> list[tuple[str, str]]:
    """Names and shapes of the data sets of an HDF5 file without groups."""
    from caffecompat.weights.hdf5_input.hdf5_file import SIGNATURE, open_hdf5
    from caffecompat.weights.mapped import read_head

    if not read_head(path, len(SIGNATURE)).startswith(SIGNATURE):
        return []
    with open_hdf5(path, max_bytes) as file:
        found = []
        for name in file.members()[:_MOST_DATA_SETS]:
            entry = file.describe(name)
            if entry is None:
                return []
            found.append((name, format_shape(entry.shape or ())))
        return found


def _print_recognition(path: Path) -> None:
    from caffecompat.weights.known_files import recognise

    recognition = recognise(path)
    if recognition is None:
        return
    print(recognition.sentence())
    for line in recognition.published.preparation:
        print(f"  {line}")


def _naming(path: Path) -> Any:
    """The spelling of layer names in state dicts, loaded for such files only."""
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        return None
    from caffecompat.net.parameters.state_dict_names import torch_naming

    return torch_naming()


def _text(head: bytes) -> str:
    return head.decode("utf-8", "replace")


def _is_definition(text: str) -> bool:
    from caffecompat.proto.wrong_files import looks_like_text, wrong_text

    return looks_like_text(text.encode()) and wrong_text(text) is None


def _is_image_list(text: str) -> bool:
    """Whether most of the first lines are names of image files, with a label or without."""
    lines = text.splitlines()[:_LINES_LOOKED_AT]
    return 2 * sum(1 for line in lines if _IMAGE_LINE.fullmatch(line)) > len(lines)


# Weights


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
    more = _net_cells(net) if net is not None else {}
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
    print_table((_NAME, Column("blob", right=True), *_NUMBERS), rows)


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
    for line in report.sentences():
        line = line.replace("was left as it was", "does not fit")
        print(f"  {printable(line.replace('loaded', 'the weights fit', 1))}")


# Definitions


def _inspect_definition(arguments: argparse.Namespace, head: str) -> None:
    from caffecompat.proto.wrong_files import prototxt_kind

    if prototxt_kind(head) == "SolverParameter":
        from caffecompat.proto.files import read_solver
        from caffecompat.proto.text.printer import format_text

        message, source = read_solver(arguments.file, max_bytes=arguments.max_bytes)
        print_notes(source.notes)
        print(f"format: prototxt, a solver ({message.type})\n\n{format_text(message).rstrip()}")
        return
    net = _described(arguments)
    print(f"format: prototxt, a net definition, shown in phase {net.phase}")
    print(printable(f"net: {net.name or '(no name)'}"))
    _print_net(net)


def _net(path: PathLike, arguments: argparse.Namespace) -> Net:
    from caffecompat.net import Net

    net = Net(path, phase=arguments.phase, options=_options(arguments))
    print_notes(net.notes)
    return net


def _described(arguments: argparse.Namespace) -> NetStructure:
    """The net of a definition, which is not run."""
    from caffecompat.net.definition import read_definition

    definition = read_definition(arguments.file, max_bytes=arguments.max_bytes)
    net = describe(definition, arguments.phase, _options(arguments))
    print_notes(net.notes)
    return net


def _options(arguments: argparse.Namespace) -> BuildOptions:
    from caffecompat.layers import BuildOptions

    return BuildOptions(
        level=arguments.level,
        stages=stages(arguments),
        dialect=arguments.dialect,
        shapes_only=True,
        shapes=dict(arguments.shape),
        max_bytes=arguments.max_bytes,
    )


def _print_net(net: NetStructure) -> None:
    from caffecompat.net.analysis.receptive_field import receptive_fields
    from caffecompat.net.analysis.summary import summarise

    summary = summarise(net)
    inputs = ", ".join(net.inputs) or "none but its data layers"
    outputs = ", ".join(net.outputs) or "none"
    print(printable(f"inputs: {inputs}; outputs: {outputs}"))
    print(
        f"parameters: {summary.parameters:,}; multiply-adds: {summary.multiply_adds:,} for a "
        f"batch of {summary.batch}\n"
    )
    cells = _net_cells(net)
    rows = []
    for row in summary.rows:
        shapes = " ".join(format_shape(shape) for shape in row.parameter_shapes)
        count = f"{row.parameters:,}" if row.parameters else ""
        rows.append((row.name, row.type, shapes, count, *cells[row.name]))
    print_table((_NAME, _TYPE, _SHAPES, _PARAMETERS, *NET_COLUMNS), rows)
    print("# receptive field: pixels that an element sees, and pixels between neighbours")
    for built, field in zip(net.layers, receptive_fields(net.layers), strict=True):
        if field.reason:
            print(f"# it ends at {built.name!r} ({built.type}): {field.reason}")


def _net_cells(net: NetStructure) -> dict[str, tuple[str, str, str]]:
    """Per layer name: top shapes, multiply-adds, receptive field."""
    from caffecompat.net.analysis.receptive_field import receptive_fields
    from caffecompat.net.analysis.summary import summarise

    by_name = dict(
        zip((built.name for built in net.layers), receptive_fields(net.layers), strict=True)
    )
    return {
        row.name: (
            " ".join(format_shape(shape) for _, shape in row.tops),
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
            str(by_name[row.name].field or ""),
        )
        for row in summarise(net).rows
    }
