"""``caffecompat plot-log``."""

from __future__ import annotations

import argparse
import sys

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "draw the loss, score and learning-rate curves of training logs"
EXAMPLE = """\
  caffecompat plot-log train.log -o curves.png
  caffecompat plot-log first.log second.log -o both.svg
  caffecompat plot-log 6 loss.png train.log       (as Caffe's plot_training_log)

charts: 0 test score over iterations, 1 over seconds; 2, 3 test loss; 4, 5 learning rate;
  6, 7 train loss"""

_CHARTS = range(8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "logs",
        metavar="LOG",
        nargs="+",
        help="logs of 'caffe train' or 'caffecompat train'; - for standard input",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the picture: .png, .svg or .pdf")
    parser.add_argument(
        "--chart",
        type=int,
        choices=_CHARTS,
        help="one of Caffe's charts by its number (default: losses, scores and rate together)",
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.logs.parse import read_log
    from caffecompat.logs.plot import plot

    chart, output, logs = arguments.chart, arguments.output, arguments.logs
    if output is None and chart is None and len(logs) > 2 and logs[0].isdecimal():
        # Caffe's order: number, picture, logs.
        chart, output, logs = int(logs[0]), logs[1], logs[2:]
        if chart not in _CHARTS:
            last = _CHARTS[-1]
            print(
                f"caffecompat: error: there is no chart {chart}; give 0 to {last}", file=sys.stderr
            )
            return 2
    if output is None:
        print("caffecompat: error: -o FILE, the picture to write, is missing", file=sys.stderr)
        return 2
    plot([read_log(path, arguments.max_bytes) for path in logs], output, chart)
    print(f"wrote {output}")
    return 0
