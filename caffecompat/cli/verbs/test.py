"""``caffecompat test``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import (
    add_lenient_argument,
    add_precision_argument,
    add_state_arguments,
    add_trust_arguments,
    add_weight_arguments,
    layers,
    stages,
)

HELP = "score a net on its test data"
EXAMPLE = """\
  caffecompat test --model train_val.prototxt --weights net.caffemodel --iterations 100"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="net prototxt")
    parser.add_argument("--weights", required=True, help="weight file")
    parser.add_argument(
        "--iterations", type=int, default=50, help="number of batches (default: 50)"
    )
    parser.add_argument("--gpu", default="", help="GPU id; default: the CPU")
    add_precision_argument(parser)
    add_weight_arguments(parser)
    add_trust_arguments(parser)
    add_lenient_argument(parser)
    add_state_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.net import Net
    from caffecompat.solver.device import checked_device, flagged_device
    from caffecompat.solver.log import LOGGER, log_to_stderr
    from caffecompat.solver.mode import Mode
    from caffecompat.solver.scoring import report_device, score

    with log_to_stderr():
        device = checked_device(flagged_device(arguments.gpu) or "cpu")
        report_device(device)
        net = Net(
            arguments.model,
            None,
            "test",
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
            report = net.load_weights(
                arguments.weights, layers=layers(arguments), on_mismatch=arguments.on_mismatch
            )
            if arguments.layers or arguments.on_mismatch != "error":
                for sentence in report.sentences():
                    LOGGER.info(sentence)
            mode = Mode(arguments.precision)
            mode.prepare(net, train=False)
            with mode.whole_pass(), mode.forward(net.device):
                score(net, arguments.iterations)
        finally:
            net.close()
    return 0
