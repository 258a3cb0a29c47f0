"""Arguments and net of the verbs that describe a net without running it."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import (
    add_fork_arguments,
    add_max_bytes_argument,
    add_state_arguments,
    build_options,
)
from caffecompat.input_files import path_or_standard_input
from caffecompat.reporting import terminal

if TYPE_CHECKING:
    from caffecompat.layers import BuildOptions
    from caffecompat.net import Net
    from caffecompat.net.definition import Definition
    from caffecompat.net.structure import NetStructure


def add_net_arguments(parser: argparse.ArgumentParser, phases: str = "TRAIN or TEST") -> None:
    """The net's prototxt, its phase, level and stages, ``--lenient``, ``--max-bytes``."""
    parser.add_argument("net", help="net definition (prototxt); - for standard input")
    parser.add_argument("--phase", default="TEST", help=f"{phases} (default: %(default)s)")
    add_description_arguments(parser)


def add_description_arguments(parser: argparse.ArgumentParser) -> None:
    """What a net needs whose shapes alone are wanted: stated shapes, forks, state, limits."""
    add_fork_arguments(parser)
    parser.add_argument(
        "--allow-python",
        action="store_true",
        help="run the code that the net's Python layers name, to learn their shapes",
    )
    add_shape_argument(parser)
    add_state_arguments(parser)
    add_max_bytes_argument(parser)


def add_shape_argument(parser: argparse.ArgumentParser) -> None:
    """``--shape``: shapes of tops of a data layer whose files are missing."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=_top_shape,
        metavar="TOP=SHAPE",
        help="the shape of a top of a data or input layer, such as data=3x227x227, with the batch "
        "size in front if it differs from the definition's; may be given several times",
    )


def _top_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, extents = text.rpartition("=")
    if not name or not re.fullmatch(r"[0-9]{1,9}([x,][0-9]{1,9})*", extents):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape of a top; write data=3x227x227")
    return name, tuple(int(extent) for extent in re.split("[x,]", extents))


def print_notes(notes: Iterable[str]) -> None:
    """Prints the notes on a net as comments."""
    for note in notes:
        print(terminal.as_warning(f"# {terminal.printable(note)}", sys.stdout))


def described_net(arguments: argparse.Namespace) -> NetStructure:
    """The net of the arguments, for a description; see :func:`describe`."""
    return describe(_definition(arguments), arguments.phase, description_options(arguments))


def describe(definition: Definition, phase: str, options: BuildOptions) -> NetStructure:
    """The net for a description: without torch if its layers state the shapes of their tops.

    Args:
        options: with ``shapes_only``.
    """
    from caffecompat.net.stated_net import stated_net

    stated = stated_net(definition, phase, options)
    return _net(definition, phase, options) if stated is None else stated


def net_for_shapes(arguments: argparse.Namespace) -> Net:
    """The net without parameter values; its data need not exist."""
    return _net(_definition(arguments), arguments.phase, description_options(arguments))


def _net(definition: Definition, phase: str, options: BuildOptions) -> Net:
    from caffecompat.net import Net

    return Net(definition, phase=phase, options=options)


def _definition(arguments: argparse.Namespace) -> Definition:
    from caffecompat.net.definition import read_definition

    source = path_or_standard_input(arguments.net, arguments.max_bytes)
    return read_definition(source, arguments.lenient, arguments.max_bytes)


def description_options(arguments: argparse.Namespace) -> BuildOptions:
    """The options of a net whose data need not exist, with the shapes of ``--shape``."""
    return replace(build_options(arguments), shapes_only=True, shapes=dict(arguments.shape))
