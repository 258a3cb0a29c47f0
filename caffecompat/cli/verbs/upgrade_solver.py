"""``caffecompat upgrade-solver``: a solver definition of an older generation as today's."""

from __future__ import annotations

import argparse

HELP = "rewrite an old solver definition (prototxt) in today's form"
EXAMPLE = """  caffecompat upgrade-solver old_solver.prototxt solver.prototxt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="solver definition of any generation")
    parser.add_argument("target", help="file to write, text or binary as the source")
    parser.add_argument(
        "--binary",
        action="store_true",
        help="the source is a binary SolverParameter; by default its content tells",
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.cli.verbs.upgrade_net import report
    from caffecompat.proto import files

    if not arguments.binary and files.is_text(arguments.source):
        solver, source = files.read_upgraded(arguments.source, "SolverParameter")
        files.write_text(solver, arguments.target)
        return report(arguments.source, arguments.target, source.notes)
    from caffecompat.proto.binary_nets import upgrade_binary_solver

    solver, notes = upgrade_binary_solver(arguments.source)
    files.write_binary(solver, arguments.target)
    return report(arguments.source, arguments.target, notes)
