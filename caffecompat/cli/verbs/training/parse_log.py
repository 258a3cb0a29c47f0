"""``caffecompat parse-log``."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument
from caffecompat.reporting.terminal import printable

HELP = "make CSV tables of the outputs in a training's log, as Caffe's parse_log.py does"
EXAMPLE = """\
  caffecompat parse-log train.log tables/
  writes tables/train.log.train and tables/train.log.test, with the columns
  NumIters,Seconds,LearningRate,accuracy,loss"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "log",
        metavar="LOG",
        help="log of 'caffe train' or 'caffecompat train'; - for standard input",
    )
    parser.add_argument(
        "folder", metavar="OUT_DIR", nargs="?", default=".", help="where the tables go (default: .)"
    )
    parser.add_argument("--delimiter", default=",", help="between columns (default: ,)")
    parser.add_argument("--verbose", action="store_true", help="print the tables, too")
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.errors import FileProblem
    from caffecompat.logs.parse import read_log, write_tables

    if len(arguments.delimiter) != 1 or arguments.delimiter in '"\r\n\0':
        raise FileProblem(
            f"--delimiter is {arguments.delimiter!r}; it must be one character, no quote, no line "
            "end"
        )
    log = read_log(arguments.log, arguments.max_bytes)
    written = write_tables(log, arguments.folder, arguments.delimiter)
    if not written:
        place = printable(arguments.log)
        print(f"{place}: shows no outputs; train with 'display' or 'test_interval' set")
    for path in written:
        print(f"wrote {printable(path)}")
        if arguments.verbose:
            with open(path, encoding="utf-8") as file:
                print(file.read(), end="")
    return 0
