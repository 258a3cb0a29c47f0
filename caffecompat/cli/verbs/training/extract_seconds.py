"""Verb ``extract-seconds``: the times of the iterations in a training's log."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "write the seconds since the start for each iteration that a training's log names"

EXAMPLE = """\
  caffecompat extract-seconds train.log seconds.txt
  (caffecompat parse-log makes tables with these seconds and the outputs)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's script."""
    parser.add_argument(
        "log",
        metavar="LOG",
        help="log of 'caffe train' or 'caffecompat train'; - for standard input",
    )
    parser.add_argument("output", metavar="OUT", help="text file to write, one number per line")
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read the log, write the numbers."""
    from caffecompat.logs.extract_seconds import read_seconds
    from caffecompat.output_files import atomic_write

    seconds = read_seconds(arguments.log, arguments.max_bytes)
    with atomic_write(arguments.output) as file:
        file.write("".join(f"{value:f}\n" for value in seconds).encode())
    print(f"{arguments.output}: {len(seconds):,} lines")
    return 0
