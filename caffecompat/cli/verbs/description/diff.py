"""``caffecompat diff``: two models or two net definitions, structure and numbers."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_max_bytes_argument
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted, format_shape

if TYPE_CHECKING:
    from caffecompat.weights import Weights
    from caffecompat.weights.compare import WeightsComparison

HELP = "compare two models, nets or solvers: structure, weights, fields; exit 0 if equal, else 1"
EXAMPLE = """  caffecompat diff old.caffemodel new.caffemodel
  caffecompat diff vgg16.caffemodel vgg16.caffemodel.h5 --tolerance 1e-6
  caffecompat diff deploy.prototxt train_val.prototxt"""

EQUAL, DIFFERENT = 0, 1
COLUMNS = (
    Column("layer", shortens=True, is_name=True),
    Column("blob", right=True),
    Column("shape", rank=1),
    Column("max abs", right=True),
    Column("relative", right=True),
    Column("NaN in one", right=True, rank=2),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", help="weights of any format, or a prototxt")
    parser.add_argument("second", help="another one of the same kind; the format may differ")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="X",
        help="values that are at most so far apart count as equal (default: %(default)s)",
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.errors import FormatError
    from caffecompat.weights.description import OTHER, WEIGHTS, file_kind

    paths = Path(arguments.first), Path(arguments.second)
    kinds = [file_kind(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        if kind not in (WEIGHTS, OTHER):
            raise FormatError(f"{path}: this is a {kind}; give two weight files or two prototxts")
    if kinds[0] != kinds[1]:
        definition, weights = (paths[kinds.index(kind)] for kind in (OTHER, WEIGHTS))
        words = "caffecompat", "inspect", str(weights), "--model", str(definition)
        raise FormatError(
            f"{definition}: this is a definition, but {weights} holds weights; to see whether "
            f"these fit: {shlex.join(words)}"
        )
    if kinds[0] == OTHER:
        return _diff_definitions(paths, arguments.max_bytes)
    return _diff_weights(paths, arguments.tolerance, arguments.max_bytes)


def _diff_definitions(paths: tuple[Path, Path], max_bytes: int | None) -> int:
    """Compares two nets, or two solvers if the first one looks like one."""
    from caffecompat.graph.compare import compare_nets, compare_solvers
    from caffecompat.proto.files import read_net, read_solver
    from caffecompat.proto.wrong_files import prototxt_kind
    from caffecompat.weights.mapped import read_head

    head = read_head(paths[0]).decode("utf-8", "replace")
    solvers = prototxt_kind(head) == "SolverParameter"
    read, compare = (read_solver, compare_solvers) if solvers else (read_net, compare_nets)
    messages = []
    for path in paths:
        message, source = read(path, max_bytes=max_bytes)
        messages.append(message)
        for note in source.notes:
            print(printable(f"# {path}: {note}"))
    lines = compare(*messages)
    for line in lines:
        print(printable(line))
    same = "equal" if solvers else f"equal: {counted(len(messages[0].layer), 'layer')}"
    print(counted(len(lines), "difference") if lines else f"{same}, field by field")
    return DIFFERENT if lines else EQUAL


def _diff_weights(paths: tuple[Path, Path], tolerance: float, max_bytes: int | None) -> int:
    from caffecompat.net.parameters.state_dict_names import torch_naming
    from caffecompat.weights import load_weights
    from caffecompat.weights.compare import compare_weights

    naming = torch_naming()
    one, other = (load_weights(path, naming, max_bytes) for path in paths)
    _print_titles(one, other)
    comparison = compare_weights(one, other)
    for line in comparison.structure:
        print(printable(line))
    _print_distances(comparison, tolerance)
    return DIFFERENT if comparison.differs(tolerance) else EQUAL


def _print_titles(*both: Weights) -> None:
    from caffecompat.weights.description import TITLES

    for which, weights in zip(("first", "second"), both, strict=True):
        title = TITLES.get(weights.format, weights.format)
        generation = f", generation {weights.generation}" if weights.generation else ""
        print(f"# {which}: {weights.path}, {title}{generation}")


def _print_distances(comparison: WeightsComparison, tolerance: float) -> None:
    apart = [d for d in comparison.distances if not d.within(tolerance)]
    if apart:
        rows = []
        for d in apart:
            shape = format_shape(d.shape)
            nans = str(d.nans) if d.nans else ""
            cells = (d.layer, str(d.index), shape, f"{d.largest:.6g}", f"{d.relative:.6g}", nans)
            rows.append(cells)
        print_table(COLUMNS, rows)
    count = len(comparison.distances)
    within = f" within {tolerance:g}" if tolerance else ""
    if comparison.differs(tolerance):
        print(
            f"{counted(len(comparison.structure), 'difference')} of structure; {len(apart)} of "
            f"{counted(count, 'blob')} differ in their values, {count - len(apart)} are equal"
            f"{within}"
        )
    else:
        print(f"equal: {counted(count, 'blob')}{within}")
