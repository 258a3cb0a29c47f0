"""Prototxts: nets and solvers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.shapes import describe, description_options, print_notes
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import format_shape

if TYPE_CHECKING:
    from caffecompat.net.structure import NetStructure

NAME = Column("layer", shortens=True, is_name=True)
TYPE = Column("type", shortens=True)
SHAPES = Column("parameter shapes", shortens=True, rank=2)
PARAMETERS = Column("parameters", right=True)
NET_COLUMNS = (
    Column("top shapes", shortens=True),
    Column("multiply-adds", right=True, rank=3),
    Column("receptive field", rank=1),
)


def is_definition(text: str) -> bool:
    """Whether this is the beginning of a prototxt."""
    from caffecompat.proto.wrong_files import looks_like_text, wrong_text

    return looks_like_text(text.encode()) and wrong_text(text) is None


def print_definition(arguments: argparse.Namespace, head: str) -> None:
    """Prints the net or the solver of the file of ``arguments``, which begins with ``head``."""
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


def _described(arguments: argparse.Namespace) -> NetStructure:
    """The net of a definition, which is not run."""
    from caffecompat.net.definition import read_definition

    definition = read_definition(arguments.file, max_bytes=arguments.max_bytes)
    net = describe(definition, arguments.phase, description_options(arguments))
    print_notes(net.notes)
    return net


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
    cells = net_cells(net)
    rows = []
    for row in summary.rows:
        shapes = " ".join(format_shape(shape) for shape in row.parameter_shapes)
        count = f"{row.parameters:,}" if row.parameters else ""
        rows.append((row.name, row.type, shapes, count, *cells[row.name]))
    print_table((NAME, TYPE, SHAPES, PARAMETERS, *NET_COLUMNS), rows)
    print("# receptive field: pixels that an element sees, and pixels between neighbours")
    for built, field in zip(net.layers, receptive_fields(net.layers), strict=True):
        if field.reason:
            print(f"# it ends at {built.name!r} ({built.type}): {field.reason}")


def net_cells(net: NetStructure) -> dict[str, tuple[str, str, str]]:
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
