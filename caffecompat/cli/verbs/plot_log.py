"""``caffecompat plot-log``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "draw the loss, score and learning-rate curves of training logs"
EXAMPLE = """\
  caffecompat plot-log train.log -o curves.png
  caffecompat plot-log first.log second.log -o both.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "logs",
        metavar="LOG",
        nargs="+",
        help="logs of 'caffe train' or 'caffecompat train'; - for standard input",
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the picture: .png, .svg or .pdf"
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.solver.parsed_log import read_log
    from caffecompat.solver.plot import plot

    plot([read_log(path, arguments.max_bytes) for path in arguments.logs], arguments.output)
    print(f"wrote {arguments.output}")
    return 0
