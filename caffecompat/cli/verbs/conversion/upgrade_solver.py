"""``caffecompat upgrade-solver``: rewrites a solver definition of an older generation."""

from __future__ import annotations

import argparse

from caffecompat.cli.upgrading import add_upgrade_arguments, is_binary, report, source_of

HELP = "rewrite an old solver definition (prototxt) in today's form"
EXAMPLE = """  caffecompat upgrade-solver old_solver.prototxt solver.prototxt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_upgrade_arguments(parser, "solver definition")


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.proto import files
    from caffecompat.proto.binary.nets import upgrade_binary_solver

    given = source_of(arguments)
    if is_binary(arguments, given):
        solver, notes = upgrade_binary_solver(given, arguments.max_bytes)
        files.write_binary(solver, arguments.target)
        return report(arguments, notes)
    solver, source = files.read_upgraded(given, "SolverParameter", max_bytes=arguments.max_bytes)
    files.write_text(solver, arguments.target)
    return report(arguments, source.notes)
