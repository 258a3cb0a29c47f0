"""``caffecompat train``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import (
    add_state_arguments,
    add_trust_arguments,
    add_weight_arguments,
    layers,
    stages,
)

HELP = "train a net as a solver prototxt says, or go on from a snapshot"
EXAMPLE = """\
  caffecompat train --solver solver.prototxt --gpu 0
  caffecompat train --solver solver.prototxt --weights vgg16.caffemodel
  caffecompat train --solver solver.prototxt --snapshot snap_iter_5000.solverstate
  until caffecompat train --solver solver.prototxt --snapshot auto; do sleep 1; done

exit codes: 0 trained to the end, or stopped by Ctrl-C; 1 bad input or a failed run; 2 bad usage;
75 stopped by SIGTERM with a snapshot written: run again with --snapshot auto to go on"""

EFFECTS = ("stop", "snapshot", "none")
# sysexits.h: a temporary failure, try again later. Schedulers take 0 for a job that is done.
PREEMPTED = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--solver", required=True, help="solver prototxt")
    _add_start_arguments(parser)
    parser.add_argument(
        "--gpu",
        default="",
        help="GPU id, or all; default: what solver_mode says where it is written, else the CPU",
    )
    _add_signal_arguments(parser)
    parser.add_argument(
        "--on-nan",
        choices=("stop", "ignore"),
        default="stop",
        help="what a loss that is no finite number does: stop and name the layer where it began, "
        "or go on as Caffe does (default: stop)",
    )
    parser.add_argument(
        "--auto-iter-size",
        action="store_true",
        help="where memory would not suffice, divide batch_size and multiply iter_size; samples "
        "and updates stay the same",
    )
    parser.add_argument(
        "--tensorboard", default="", metavar="DIR", help="write curves for TensorBoard to DIR"
    )
    add_trust_arguments(parser)
    add_state_arguments(parser)


def _add_start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--snapshot",
        default="",
        help="solver state (.solverstate) to go on from, or auto: the newest intact one under the "
        "snapshot prefix, and the beginning (or --weights) where there is none",
    )
    parser.add_argument(
        "--weights", default="", help="weights to start from, several separated by commas"
    )
    add_weight_arguments(parser)


def _add_signal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sigint-effect", choices=EFFECTS, default="stop", help="what Ctrl-C does (default: stop)"
    )
    parser.add_argument(
        "--sighup-effect",
        choices=EFFECTS,
        default="snapshot",
        help="what a hang-up signal does (default: snapshot). SIGTERM always writes a snapshot and "
        "ends with exit code 75",
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.solver import Action, SignalActions, Solver
    from caffecompat.solver.device import flagged_device
    from caffecompat.solver.log import LOGGER
    from caffecompat.solver.progress import training_bar, training_log
    from caffecompat.solver.tensorboard import tensorboard

    with training_log():
        solver = Solver(
            arguments.solver,
            weights=arguments.weights or None,
            snapshot=arguments.snapshot or None,
            device=flagged_device(arguments.gpu),
            level=arguments.level,
            stages=stages(arguments),
            on_nan=arguments.on_nan,
            forecast=True,
            auto_iter_size=arguments.auto_iter_size,
            layers=layers(arguments),
            on_mismatch=arguments.on_mismatch,
            allow_python=arguments.allow_python,
            skip_corrupt=arguments.skip_corrupt,
        )
        signals = SignalActions(Action(arguments.sigint_effect), Action(arguments.sighup_effect))
        try:
            with (
                signals,
                tensorboard(solver, arguments.tensorboard),
                training_bar(solver, solver.max_iter),
            ):
                solver.requested = signals.requested
                LOGGER.info("Starting Optimization")
                solver.solve()
            if solver.stopped and signals.preempted:
                LOGGER.info("Preempted by SIGTERM; --snapshot auto goes on from here.")
                return PREEMPTED
            LOGGER.info("Optimization Done.")
        finally:
            solver.close()
    return 0
