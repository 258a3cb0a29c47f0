"""``caffecompat time``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import check_files, weight_files
from caffecompat.cli.running import add_running_arguments, open_net
from caffecompat.reporting.table import Column, print_table

if TYPE_CHECKING:
    from caffecompat.net import Net

HELP = "measure how long each layer of a net takes, forward and backward"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat time --model deploy.prototxt --iterations 10 --gpu 0
  caffecompat time --model deploy.prototxt --engines torch,torch-optimized,onnxruntime"""

_COLUMNS = (
    Column("program", is_name=True),
    Column("version"),
    Column("ms", right=True),
    Column("ratio", right=True),
    Column("note", shortens=True, rank=1),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="net prototxt")
    parser.add_argument(
        "--weights",
        default="",
        help="weight files, separated by commas; default: the net's fillers",
    )
    parser.add_argument(
        "--phase",
        # An empty one is Caffe's default.
        type=lambda phase: phase or "TRAIN",
        choices=("TRAIN", "TEST"),
        default="TRAIN",
        help="network phase (default: TRAIN)",
    )
    parser.add_argument("--iterations", type=int, default=50, help="number of passes (default: 50)")
    parser.add_argument(
        "--engines",
        metavar="NAME,...",
        help="measure forward passes of the whole net (phase TEST, on the CPU) in several "
        "programs, in turns, instead of layers: torch (the net as it is), torch-optimized, "
        "onnxruntime, openvino, opencv, fastest (what --optimize takes), or all; the ratio is to "
        "the first",
    )
    parser.add_argument(
        "--opencv-python",
        default="",
        metavar="PYTHON",
        help="--engines opencv: the Python whose OpenCV is meant (default: this one)",
    )
    add_running_arguments(parser, engines=False)


def run(arguments: argparse.Namespace) -> int:
    files = weight_files(arguments)
    check_files(arguments.model, *files)

    from caffecompat.evaluate.benchmark import measure
    from caffecompat.reporting.glog import LOGGER, log_to_stderr
    from caffecompat.solver.setup.compute import ComputeOptions

    with log_to_stderr():
        net = open_net(arguments, "TEST" if arguments.engines else arguments.phase)
        try:
            for path in files:
                net.load_weights(path).write_to(LOGGER)
            if arguments.engines:
                _compare(net, arguments)
            else:
                measure(net, arguments.iterations, ComputeOptions(arguments.precision))
        finally:
            net.close()
    return 0


def _compare(net: Net, arguments: argparse.Namespace) -> None:
    """Prints a table of programs and their times."""
    from caffecompat.inference.comparison import CONTENDERS, ComparisonOptions, compare
    from caffecompat.net.execution.inference import InferenceOptions

    names = CONTENDERS if arguments.engines == "all" else arguments.engines.split(",")
    options = ComparisonOptions(
        InferenceOptions(precision=arguments.precision), arguments.opencv_python
    )
    found = compare(net, [name.strip() for name in names], options)
    first = next((one.milliseconds for one in found if one.milliseconds), None)
    rows = []
    for one in found:
        if one.milliseconds is None or first is None:
            rows.append((one.name, one.version, "-", "-", one.note))
            continue
        ratio = f"{one.milliseconds / first:.2f}"
        rows.append((one.name, one.version, f"{one.milliseconds:.2f}", ratio, one.note))
    print_table(_COLUMNS, rows)
