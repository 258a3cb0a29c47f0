"""``caffecompat time``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import (
    add_lenient_argument,
    add_precision_argument,
    add_state_arguments,
    add_trust_arguments,
    stages,
)

HELP = "measure how long each layer of a net takes, forward and backward"
EXAMPLE = """\
  caffecompat time --model deploy.prototxt --iterations 10 --gpu 0"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="net prototxt")
    parser.add_argument("--weights", default="", help="weight file; default: the net's fillers")
    parser.add_argument(
        "--phase", choices=("TRAIN", "TEST"), default="TRAIN", help="network phase (default: TRAIN)"
    )
    parser.add_argument("--iterations", type=int, default=50, help="number of passes (default: 50)")
    parser.add_argument("--gpu", default="", help="GPU id; default: the CPU")
    add_precision_argument(parser)
    add_trust_arguments(parser)
    add_lenient_argument(parser)
    add_state_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.net import Net
    from caffecompat.solver.device import checked_device, flagged_device
    from caffecompat.solver.log import LOGGER, log_to_stderr
    from caffecompat.solver.mode import Mode
    from caffecompat.solver.scoring import report_device
    from caffecompat.solver.timing import measure

    with log_to_stderr():
        device = checked_device(flagged_device(arguments.gpu) or "cpu")
        report_device(device)
        net = Net(
            arguments.model,
            arguments.weights or None,
            arguments.phase,
            device,
            level=arguments.level,
            stages=stages(arguments),
            allow_python=arguments.allow_python,
            skip_corrupt=arguments.skip_corrupt,
            lenient=arguments.lenient,
        )
        for note in net.notes:
            LOGGER.info(note)
        try:
            measure(net, arguments.iterations, Mode(arguments.precision))
        finally:
            net.close()
    return 0
