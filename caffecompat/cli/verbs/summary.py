"""``caffecompat summary``: shapes, parameters and multiply-adds of a net."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.shapes import add_net_arguments, net_for_shapes

if TYPE_CHECKING:
    from caffecompat.net.summary import Summary

HELP = "print shapes, parameters and multiply-adds of a net, layer by layer"
EXAMPLE = "  caffecompat summary prototxt/D_deploy.prototxt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_net_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.net.summary import summarise

    net = net_for_shapes(arguments)
    for note in net.notes:
        print(f"# {note}")
    print(_table(summarise(net)))
    return 0


def _table(summary: Summary) -> str:
    from caffecompat.layers.base import format_shape

    header = ("layer", "type", "top shapes", "parameter shapes", "parameters", "multiply-adds")
    lines = [header]
    for row in summary.rows:
        lines.append(
            (
                row.name,
                row.type,
                " ".join(f"{format_shape(shape)}" for _, shape in row.tops),
                " ".join(format_shape(shape) for shape in row.parameter_shapes),
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.multiply_adds:,}" if row.multiply_adds else "",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = [
        "  ".join(
            cell.rjust(width) if column >= 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    per_item = summary.multiply_adds // summary.batch
    text.append(
        f"total: {summary.parameters:,} parameters ({summary.parameters / 1e6:.0f} million), "
        f"{summary.multiply_adds:,} multiply-adds for a batch of {summary.batch} "
        f"({per_item / 1e9:.2f} billion for one)"
    )
    return "\n".join(text)
