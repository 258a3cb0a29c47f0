"""``caffecompat inspect``: the content of a model, a definition, a solver state or a mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from caffecompat.cli.arguments import (
    add_dialect_argument,
    add_max_bytes_argument,
    add_state_arguments,
)
from caffecompat.cli.inspection.data_files import (
    is_image_list,
    print_data_sets,
    print_database,
    print_image_list,
)
from caffecompat.cli.inspection.definitions import is_definition, print_definition
from caffecompat.cli.inspection.weights import print_weights
from caffecompat.cli.shapes import add_shape_argument
from caffecompat.input_files import STANDARD_INPUT, StandardInput, path_or_standard_input
from caffecompat.reporting.terminal import printable

HELP = "describe a file: format, layers, shapes, values, and whether it is a published model"
EXAMPLE = """  caffecompat inspect VGG_ILSVRC_16_layers.caffemodel
  caffecompat inspect --values --model prototxt/D_deploy.prototxt vgg16.caffemodel
  caffecompat inspect prototxt/D_deploy.prototxt"""


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
    from caffecompat.weights.known_files import file_hash
    from caffecompat.weights.mapped import check_file

    if arguments.file == STANDARD_INPUT:
        _print_standard_input(arguments)
        return 0
    path = Path(arguments.file)
    if path.is_dir() and (backend := guess_backend(path)):
        print_database(path, backend)
        return 0
    print(f"{printable(str(path))}: {check_file(path, arguments.max_bytes):,} bytes")
    _print_recognition(path)
    if arguments.hash:
        print(f"sha256: {file_hash(path)}")
    _print_content(arguments, path)
    return 0


def _print_content(arguments: argparse.Namespace, path: Path) -> None:
    from caffecompat.weights.description import OTHER, file_kind
    from caffecompat.weights.mapped import read_head

    if print_data_sets(path, arguments.max_bytes):
        return
    other = file_kind(path) == OTHER
    head = _text(read_head(path))
    if other and is_image_list(head):
        print_image_list(path, arguments.max_bytes)
    elif other and is_definition(head):
        print_definition(arguments, head)
    else:
        print_weights(arguments, path)


def _print_standard_input(arguments: argparse.Namespace) -> None:
    from caffecompat.errors import FormatError

    given = path_or_standard_input(arguments.file, arguments.max_bytes)
    assert isinstance(given, StandardInput)
    print(f"{os.fspath(given)}: {len(given.data):,} bytes")
    if not is_definition(text := _text(given.data)):
        raise FormatError(
            "standard input: this is no prototxt; files of other kinds are inspected by their names"
        )
    arguments.file = given
    print_definition(arguments, text)


def _print_recognition(path: Path) -> None:
    from caffecompat.weights.known_files import recognise

    recognition = recognise(path)
    if recognition is None:
        return
    print(recognition.sentence())
    for line in recognition.published.preparation:
        print(f"  {line}")


def _text(head: bytes) -> str:
    return head.decode("utf-8", "replace")
