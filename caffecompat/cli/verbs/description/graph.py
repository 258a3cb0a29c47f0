"""``caffecompat graph``: the executable graph that a net is compiled to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from caffecompat.cli.shapes import add_net_arguments, described_net, net_for_shapes
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import format_shape

if TYPE_CHECKING:
    from caffecompat.net import Net
    from caffecompat.net.structure import NetStructure

HELP = "print the graph that a net is compiled to: nodes, blobs, lines of the prototxt"
EXAMPLE = """  caffecompat graph prototxt/D_deploy.prototxt
  caffecompat graph net.prototxt --phase TRAIN --dot net.dot && dot -Tsvg net.dot -o net.svg"""

COLUMNS = (
    Column("node", shortens=True, is_name=True),
    Column("call", shortens=True),
    Column("blobs", shortens=True),
    Column("line", right=True),
    Column("layer", shortens=True, rank=1),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_net_arguments(parser)
    parser.add_argument("--dot", metavar="FILE", help="write a picture for graphviz instead")
    parser.add_argument(
        "--code", action="store_true", help="print the generated Python of the graph instead"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.dot:
        from caffecompat.output_files import atomic_write

        picture = dot(described_net(arguments))
        with atomic_write(arguments.dot) as file:
            file.write(picture.encode())
        print(f"wrote {arguments.dot}")
        return 0
    net = net_for_shapes(arguments)
    if arguments.code:
        print(net.program().module.code.strip())
    else:
        _print_listing(net)
    return 0


def _print_listing(net: Net) -> None:
    """One line per fx node: what it calls, its blobs, and the layer that it comes from."""
    rows, file = [], ""
    for node in net.program(observed=True).module.graph.nodes:
        if node.op == "output":
            continue
        arguments = ", ".join(_argument(argument) for argument in node.args)
        call = node.op if node.op == "placeholder" else f"{_target(node)}({arguments})"
        blobs = " ".join(node.meta.get("blobs", ()))
        location = node.meta.get("location", "")
        layer = node.meta.get("place", "").removeprefix(f"{location}: ")
        file, _, line = location.rpartition(":")
        rows.append((node.name, call, blobs, line, layer))
    where = f", lines of {printable(file)}" if file else ""
    print(f"# {printable(net.name) or 'net'} in phase {net.phase}{where}")
    print_table(COLUMNS, rows)
    print(f"# outputs: {printable(', '.join(net.outputs)) or 'none'}")


def _argument(argument: Any) -> str:
    return str(getattr(argument, "name", argument))


def _target(node: Any) -> str:
    return str(getattr(node.target, "__name__", node.target))


def dot(net: NetStructure) -> str:
    """The net as graphviz text: layers as boxes, blobs on the arrows with their shapes."""
    producers: dict[Any, int] = {}
    lines = ["digraph net {", "  rankdir=TB;", '  node [shape=box, fontname="Helvetica"];']
    for i, built in enumerate(net.layers):
        if built.node.automatic:
            producers.update(dict.fromkeys(built.tops, producers[built.bottoms[0]]))
            continue
        label = _quoted(f"{built.name}\n{built.type}")
        shape = ", style=rounded" if built.source is not None else ""
        lines.append(f"  n{i} [label={label}{shape}];")
        for bottom in built.bottoms:
            size = format_shape(net.shape_of(bottom))
            edge = _quoted(f"{bottom} {size}")
            lines.append(f"  n{producers[bottom]} -> n{i} [label={edge}];")
        producers.update(dict.fromkeys(built.tops, i))
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
