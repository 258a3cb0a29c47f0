"""``caffecompat train``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_state_arguments, stages

HELP = "train a net as a solver prototxt says, or go on from a snapshot"
EXAMPLE = """\
  caffecompat train --solver solver.prototxt --gpu 0
  caffecompat train --solver solver.prototxt --weights vgg16.caffemodel
  caffecompat train --solver solver.prototxt --snapshot snap_iter_5000.solverstate"""

EFFECTS = ("stop", "snapshot", "none")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--solver", required=True, help="solver prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--snapshot", default="", help="solver state (.solverstate) to go on from")
    start.add_argument(
        "--weights", default="", help="weights to start from, several separated by commas"
    )
    parser.add_argument(
        "--gpu",
        default="",
        help="GPU id, or all; default: what solver_mode says where it is written, else the CPU",
    )
    parser.add_argument(
        "--sigint-effect", choices=EFFECTS, default="stop", help="what Ctrl-C does (default: stop)"
    )
    parser.add_argument(
        "--sighup-effect",
        choices=EFFECTS,
        default="snapshot",
        help="what a hang-up signal does (default: snapshot)",
    )
    add_state_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.solver import Action, SignalActions, Solver
    from caffecompat.solver.device import flagged_device
    from caffecompat.solver.log import LOGGER
    from caffecompat.solver.progress import training_bar, training_log

    with training_log():
        solver = Solver(
            arguments.solver,
            weights=arguments.weights or None,
            snapshot=arguments.snapshot or None,
            device=flagged_device(arguments.gpu),
            level=arguments.level,
            stages=stages(arguments),
        )
        signals = SignalActions(Action(arguments.sigint_effect), Action(arguments.sighup_effect))
        try:
            with signals, training_bar(solver, solver.max_iter):
                solver.requested = signals.requested
                LOGGER.info("Starting Optimization")
                solver.solve()
            LOGGER.info("Optimization Done.")
        finally:
            solver.close()
    return 0
