"""``caffecompat train``."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import (
    add_device_arguments,
    add_fork_arguments,
    add_max_bytes_argument,
    add_precision_argument,
    add_state_arguments,
    add_trust_arguments,
    add_weight_arguments,
    check_files,
    layers,
    stages,
)
from caffecompat.cli.starting import SignalsAtStart

if TYPE_CHECKING:
    from caffecompat.solver import Solver
    from caffecompat.solver.distributed.process_group import ProcessGroup
    from caffecompat.solver.setup.settings import Settings

HELP = "train a net by a solver prototxt, or resume from a snapshot"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat train --solver solver.prototxt --gpu 0
  caffecompat train --solver solver.prototxt --weights vgg16.caffemodel
  caffecompat train --solver solver.prototxt --snapshot snap_iter_5000.solverstate
  caffecompat train --solver solver.prototxt --gpu all --precision bf16
  torchrun --nproc-per-node 8 --nnodes 2 ... -m caffecompat train --solver solver.prototxt --gpu all
  until caffecompat train --solver solver.prototxt --snapshot auto; do sleep 1; done

exit codes: 0 trained to the end, or stopped by Ctrl-C; 1 bad input or a failed run, or Ctrl-C
before the training had begun; 2 bad usage; 75 stopped by SIGTERM, with a snapshot written if the
training had begun: run again with --snapshot auto to resume"""

EFFECTS = ("stop", "snapshot", "none")
# sysexits.h: a temporary failure, try again later. Schedulers take 0 for a job that is done.
PREEMPTED = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--solver", required=True, help="solver prototxt")
    _add_start_arguments(parser)
    add_device_arguments(
        parser,
        "GPU ids, separated by commas, or all; several GPUs divide each batch; none is the CPU "
        "(default: solver_mode if the solver has it, else the CPU)",
    )
    _add_speed_arguments(parser)
    _add_signal_arguments(parser)
    parser.add_argument(
        "--on-nan",
        choices=("stop", "ignore"),
        default="stop",
        help="if the loss is NaN or infinite: stop and name the layer where it began, or continue "
        "as Caffe does (default: stop)",
    )
    parser.add_argument(
        "--auto-iter-size",
        action="store_true",
        help="if a batch does not fit into memory, divide batch_size and multiply iter_size; "
        "samples and updates stay the same",
    )
    parser.add_argument(
        "--tensorboard", default="", metavar="DIR", help="write curves for TensorBoard to DIR"
    )
    parser.add_argument(
        "--log-dir",
        default="",
        metavar="DIR",
        help="write the log file to DIR (default: beside the snapshots, as "
        "SNAPSHOT_PREFIX_DATE-TIME.log)",
    )
    parser.add_argument("--no-log", action="store_true", help="write no log file")
    add_trust_arguments(parser)
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)
    add_state_arguments(parser, " of the training net (of test nets: test_state in the solver)")


def _add_start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--snapshot",
        default="",
        help="solver state (.solverstate) to resume from, or auto: the newest intact one under the "
        "snapshot prefix, or a new training (from --weights) if there is none",
    )
    parser.add_argument(
        "--weights", default="", help="weight files to start from, separated by commas"
    )
    add_weight_arguments(parser)


def _add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-per-gpu",
        action="store_true",
        help="each GPU takes batch_size samples, as in Caffe (default: the GPUs divide them)",
    )
    parser.add_argument(
        "--rank-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long to wait for a rank that is missing or suspended (default: 600)",
    )
    add_precision_argument(parser)
    parser.add_argument(
        "--channels-last",
        action="store_true",
        help="keep the channels of blobs innermost in memory (default: on a GPU in 16 bits)",
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the net by torch.compile; needs a C++ compiler; slow in the first iteration",
    )
    graph = parser.add_mutually_exclusive_group()
    graph.add_argument(
        "--cuda-graph",
        action="store_const",
        const=True,
        help="record a pass (and the update, where a kernel computes it) once and play it back, or "
        "end with an error (default: on one GPU, where it is possible)",
    )
    graph.add_argument(
        "--no-cuda-graph",
        dest="cuda_graph",
        action="store_const",
        const=False,
        help="launch each operation of a pass; needs less memory",
    )
    parser.add_argument(
        "--no-fusing",
        dest="fused",
        action="store_false",
        help="compute layers one by one on a GPU in 16 bits too, where one operation could compute "
        "several",
    )
    parser.add_argument(
        "--no-kernels",
        dest="kernels",
        action="store_false",
        help="use torch's operators alone, not the Triton kernels",
    )
    parser.add_argument(
        "--no-large-pages",
        dest="large_pages",
        action="store_false",
        help="leave the memory of a training on the CPU in pages of 4 KB",
    )


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
    check_files(arguments.solver)
    # Where there is a snapshot, also that of a rank which torchrun has started again, the weights
    # are not read and may have been removed.
    if not arguments.snapshot and "TORCHELASTIC_RUN_ID" not in os.environ:
        check_files(*(name.strip() for name in arguments.weights.split(",")))
    effects = {"SIGINT": arguments.sigint_effect, "SIGHUP": arguments.sighup_effect}
    # The libraries take seconds to load, and a signal would end the process in the meantime.
    with SignalsAtStart(effects, interrupted=1, preempted=PREEMPTED) as at_start:
        code = _run(arguments)
        at_start.finish()
    return code


def _run(arguments: argparse.Namespace) -> int:
    from caffecompat.solver.distributed.launch import launch
    from caffecompat.solver.distributed.process_group import is_rank, join_ranks, local_rank
    from caffecompat.solver.setup.device_choice import (
        checked_device,
        flagged_device,
        flagged_devices,
        rank_device,
    )
    from caffecompat.solver.setup.settings import read_settings

    if not is_rank():
        ids = flagged_devices(arguments.gpu)
        if len(ids) > 1:
            return launch(_run_rank, arguments, len(ids), PREEMPTED)
        settings = read_settings(arguments.solver, arguments.lenient, arguments.max_bytes)
        return _train(arguments, settings, flagged_device(arguments.gpu), None)
    settings = read_settings(arguments.solver, arguments.lenient, arguments.max_bytes)
    device = rank_device(arguments.gpu, settings.message, local_rank()) or "cpu"
    with join_ranks(checked_device(device), arguments.rank_timeout) as process_group:
        return _train(arguments, settings, device, process_group)


def _run_rank(arguments: argparse.Namespace) -> int:
    """Runs one of the processes that ``--gpu 0,1`` starts."""
    from caffecompat.cli.main import load_verb, run_verb

    return run_verb(load_verb("train"), arguments)


def _train(
    arguments: argparse.Namespace,
    settings: Settings,
    device: str | None,
    process_group: ProcessGroup | None,
) -> int:
    from caffecompat.reporting.activity import Activity, heartbeat
    from caffecompat.reporting.glog import LOGGER
    from caffecompat.reporting.log_file import kept_log
    from caffecompat.solver import Action, SignalActions
    from caffecompat.solver.reporters.progress_bar import training_bar, training_log
    from caffecompat.solver.reporters.tensorboard import tensorboard

    first = process_group is None or process_group.first
    signals = SignalActions(Action(arguments.sigint_effect), Action(arguments.sighup_effect))
    path = _log_path(arguments, settings) if first and not arguments.no_log else None
    # Signals count from here on: building the nets may take long.
    with (
        training_log(first),
        kept_log(path) as log_file,
        signals,
    ):
        activity = Activity()
        with heartbeat(activity, LOGGER), activity.during("building the nets"):
            solver = _solver(arguments, settings, device, process_group)
        if log_file is not None:
            log_file.open()
        try:
            with (
                tensorboard(solver, arguments.tensorboard if first else ""),
                training_bar(solver, solver.max_iter) if first else nullcontext(),
            ):
                solver.requested = signals.requested
                solver.stop_requested = signals.stop_requested
                if first:
                    LOGGER.info("Starting Optimization")
                solver.solve()
            if first:
                LOGGER.info(_last_log_line(solver, arguments))
            if solver.stopped and solver.preempted:
                return PREEMPTED
        finally:
            solver.close()
    return 0


def _log_path(arguments: argparse.Namespace, settings: Settings) -> str:
    from caffecompat.reporting.log_file import log_path
    from caffecompat.solver.snapshots.snapshot_files import snapshot_files

    files = snapshot_files(settings.message, settings.path)
    return log_path(files.prefix, arguments.log_dir or None)


def _last_log_line(solver: Solver, arguments: argparse.Namespace) -> str:
    """The last line of the log; if the training was stopped, with the command that resumes it."""
    from caffecompat.cli.main import load_verb, verb_parser
    from caffecompat.cli.resuming import resume_command

    if not solver.stopped:
        return "Optimization Done."
    text = "Preempted by SIGTERM" if solver.preempted else "Stopped"
    text += f" at iteration {solver.iter}"
    if solver.last_snapshot is None:
        return f"{text}; no snapshot was written, since snapshot_after_train is false"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return f"{text}. To go on: the same torchrun command with --snapshot {solver.last_snapshot}"
    parser = verb_parser("train", load_verb("train"))
    return f"{text}. To go on: {resume_command(parser, arguments, solver.last_snapshot)}"


def _solver(
    arguments: argparse.Namespace,
    settings: Settings,
    device: str | None,
    process_group: ProcessGroup | None,
) -> Solver:
    from caffecompat.solver import Solver

    return Solver(
        settings,
        weights=arguments.weights or None,
        snapshot=arguments.snapshot or None,
        device=device,
        level=arguments.level,
        stages=stages(arguments),
        on_nan=arguments.on_nan,
        forecast=True,
        auto_iter_size=arguments.auto_iter_size,
        layers=layers(arguments),
        on_mismatch=arguments.on_mismatch,
        allow_python=arguments.allow_python,
        skip_corrupt=arguments.skip_corrupt,
        lenient=arguments.lenient,
        dialect=arguments.dialect,
        max_bytes=arguments.max_bytes,
        precision=arguments.precision,
        channels_last=arguments.channels_last or None,
        compiled=arguments.compile,
        cuda_graph=arguments.cuda_graph,
        fused=arguments.fused,
        kernels=arguments.kernels,
        large_pages=arguments.large_pages,
        process_group=process_group,
        batch_per_device=arguments.batch_per_gpu,
    )
