"""Verb ``summarize``: the wiring of a net, one line per layer, as Caffe's script lists it."""

from __future__ import annotations

import argparse
from typing import Any

from caffecompat.cli.arguments import add_lenient_argument, add_max_bytes_argument
from caffecompat.draw.geometry import geometry
from caffecompat.input_files import path_or_standard_input
from caffecompat.reporting.terminal import printable

HELP = "list the layers of a net with bottoms and tops, without building it"

EXAMPLE = """\
  caffecompat summarize train_val.prototxt
  (caffecompat summary prints shapes, parameters and multiply-adds)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's script."""
    parser.add_argument("filename", metavar="PROTOTXT", help="the net; - for standard input")
    parser.add_argument(
        "-w", "--max-width", type=int, default=30, metavar="N", help="of a column (default: 30)"
    )
    add_lenient_argument(parser)
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the table of all layers, those of every phase and stage."""
    from caffecompat.proto.files import read_net

    given = path_or_standard_input(arguments.filename, arguments.max_bytes)
    net, source = read_net(given, arguments.lenient, arguments.max_bytes)
    for note in [*source.warnings, *source.notes]:
        print(f"# {printable(note)}")
    unread: set[str] = set()
    for layer in net.layer:
        unread = (unread | set(layer.top)) - set(layer.bottom)
    known: set[str] = set()
    rows = []
    for layer in net.layer:
        bottoms = [name if name in known else f"{name}?" for name in layer.bottom]
        known |= set(layer.top)
        rows.append(
            [
                layer.name,
                _type(layer),
                _rates(layer),
                ", ".join(bottoms),
                "->",
                ", ".join(_tops(layer, unread)),
                geometry(layer),
            ]
        )
    print(_table(rows, max(arguments.max_width, 1)))
    if any("?" in row[3] for row in rows):
        print("?: no layer before has such a top")
    if unread:
        print("*: no layer reads it")
    return 0


def _type(layer: Any) -> str:
    if layer.python_param.module:
        return f"{layer.python_param.module}.{layer.python_param.layer}"
    return str(layer.type)


def _rates(layer: Any) -> str:
    """Names, rate (``x2``) and decay (``Dx0``) factors of the parameters that have any."""
    texts = []
    for param in layer.param:
        parts = [param.name] if param.name else []
        parts += [f"x{param.lr_mult:g}"] if param.lr_mult != 1 else []
        parts += [f"Dx{param.decay_mult:g}"] if param.decay_mult != 1 else []
        texts.append(" ".join(parts))
    return f"({', '.join(texts)})" if any(texts) else ""


def _tops(layer: Any, unread: set[str]) -> list[str]:
    tops = [f"{name}*" if name in unread else name for name in layer.top]
    weights = list(layer.loss_weight)
    return [f"{weights[n]:g} * {top}" if n < len(weights) else top for n, top in enumerate(tops)]


def _table(rows: list[list[str]], most: int) -> str:
    """Columns no wider than ``most``; a longer cell pushes the rest of its line to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [min(most, max(map(len, column))) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        line, end = "", 0
        for cell, width in zip(row, widths, strict=True):
            end += width + 1
            line = f"{line}{cell} ".ljust(end)
        lines.append(line.rstrip())
    return "\n".join(lines)
