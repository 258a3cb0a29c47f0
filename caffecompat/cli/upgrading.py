"""Arguments and report of ``upgrade-net`` and ``upgrade-solver``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from caffecompat.cli.arguments import add_max_bytes_argument
from caffecompat.input_files import STANDARD_INPUT, PathLike, path_or_standard_input
from caffecompat.reporting.terminal import printable


def add_upgrade_arguments(parser: argparse.ArgumentParser, source: str) -> None:
    """The source file, which is a ``source``, the target, ``--binary`` and ``--max-bytes``."""
    parser.add_argument("source", help=f"{source} of any generation; - for standard input")
    parser.add_argument("target", help="file to write, text or binary as the source")
    parser.add_argument(
        "--binary",
        action="store_true",
        help="the source is binary (default: recognised by content)",
    )
    add_max_bytes_argument(parser)


def source_of(arguments: argparse.Namespace) -> PathLike:
    """The source for readers; standard input is read once and kept."""
    return path_or_standard_input(arguments.source, arguments.max_bytes)


def is_binary(arguments: argparse.Namespace, source: PathLike) -> bool:
    """Whether to read the source as a binary message."""
    from caffecompat.proto.files import is_text

    return arguments.binary or not is_text(source)


def report(arguments: argparse.Namespace, notes: Sequence[str]) -> int:
    """Prints one line for each upgrade, problems on stderr; returns 1 if there are problems."""
    from caffecompat.proto.upgrades import Problem

    problems = [note for note in notes if isinstance(note, Problem)]
    for note in notes:
        print(printable(note), file=sys.stderr if isinstance(note, Problem) else sys.stdout)
    if not notes:
        source = "standard input" if arguments.source == STANDARD_INPUT else arguments.source
        print(f"{source} is in today's form already")
    print(f"wrote {arguments.target}")
    if problems:
        count = len(problems)
        what = "setting" if count == 1 else "settings"
        print(f"{count} {what} could not be kept, see above", file=sys.stderr)
    return 1 if problems else 0
