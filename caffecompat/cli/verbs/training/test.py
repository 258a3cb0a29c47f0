"""``caffecompat test``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_weight_arguments, check_files, layers, weight_files
from caffecompat.cli.inference_arguments import compute_options
from caffecompat.cli.running import add_running_arguments, open_net

if TYPE_CHECKING:
    from caffecompat.solver.scores import ScoreSums

HELP = "score a net on its test data"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat test --model train_val.prototxt --weights net.caffemodel --iterations 100"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="net prototxt")
    parser.add_argument("--weights", required=True, help="weight files, separated by commas")
    parser.add_argument(
        "--iterations", type=int, default=50, help="number of batches (default: 50)"
    )
    parser.add_argument(
        "--eval-type",
        default="classification",
        choices=("classification", "detection"),
        help="detection: the mean average precision of an SSD's test net (default: classification)",
    )
    parser.add_argument(
        "--ap-version",
        default="Integral",
        choices=("11point", "MaxIntegral", "Integral"),
        help="which average precision: VOC 2007's, VOC 2012's, or the area (default: Integral)",
    )
    add_weight_arguments(parser)
    add_running_arguments(parser, engines=True)


def run(arguments: argparse.Namespace) -> int:
    files = weight_files(arguments)
    check_files(arguments.model, *files)

    from caffecompat.evaluate.score import score
    from caffecompat.reporting.glog import LOGGER, log_to_stderr

    with log_to_stderr():
        net = open_net(arguments, "test")
        try:
            for path in files:
                report = net.load_weights(
                    path, layers=layers(arguments), on_mismatch=arguments.on_mismatch
                )
                report.write_to(LOGGER)
            mode = compute_options(arguments)
            mode.prepare(net, train=False)
            with mode.whole_pass(), mode.forward(net.device):
                score(net, arguments.iterations, _sums(arguments))
        finally:
            net.close()
    return 0


def _sums(arguments: argparse.Namespace) -> ScoreSums | None:
    """What collects the outputs."""
    from caffecompat.solver.detection_scores import DetectionSums

    if arguments.eval_type != "detection":
        return None
    return DetectionSums(version=arguments.ap_version, show_classes=True)
