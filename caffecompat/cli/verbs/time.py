"""``caffecompat time``."""

from __future__ import annotations

import argparse

from caffecompat.cli.running import add_running_arguments, open_net

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
    add_running_arguments(parser, engines=False)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.benchmark import measure
    from caffecompat.reporting.glog import LOGGER, log_to_stderr
    from caffecompat.solver.setup.compute import ComputeOptions

    with log_to_stderr():
        net = open_net(arguments, arguments.phase)
        try:
            if arguments.weights:
                net.load_weights(arguments.weights).write_to(LOGGER)
            measure(net, arguments.iterations, ComputeOptions(arguments.precision))
        finally:
            net.close()
    return 0
