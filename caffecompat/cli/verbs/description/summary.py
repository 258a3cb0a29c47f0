"""``caffecompat summary``: shapes, parameters and multiply-adds of a net."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.shapes import add_net_arguments, described_net, print_notes
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.units import format_shape, rounded

if TYPE_CHECKING:
    from caffecompat.net.analysis.summary import Summary

HELP = "print shapes, parameters and multiply-adds of a net, layer by layer"
EXAMPLE = """  caffecompat summary prototxt/D_deploy.prototxt
  caffecompat summary train_val.prototxt --phase TRAIN --shape data=3x227x227"""
COLUMNS = (
    Column("layer", shortens=True, is_name=True),
    Column("type", shortens=True),
    Column("top shapes", shortens=True),
    Column("parameter shapes", shortens=True, rank=2),
    Column("parameters", right=True),
    Column("multiply-adds", right=True, rank=1),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_net_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.net.analysis.summary import summarise

    net = described_net(arguments)
    print_notes(net.notes)
    _print_summary(summarise(net))
    return 0


def _print_summary(summary: Summary) -> None:
    rows = [
        (
            row.name,
            row.type,
            " ".join(format_shape(shape) for _, shape in row.tops),
            " ".join(format_shape(shape) for shape in row.parameter_shapes),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
        for row in summary.rows
    ]
    print_table(COLUMNS, rows)
    each = summary.multiply_adds // summary.batch
    batch = f" for a batch of {summary.batch}" if summary.batch > 1 else ""
    print(f"total: {summary.parameters:,} parameters{_in_words(summary.parameters)}")
    print(
        f"       {summary.multiply_adds:,} multiply-adds{batch}"
        + _in_words(each, " for one" if batch else "")
    )


def _in_words(number: int, of: str = "") -> str:
    """`` (61 million)``; nothing where the words say no more than the number itself."""
    words = rounded(number)
    return f" ({words}{of})" if of or words != f"{number:,}" else ""
