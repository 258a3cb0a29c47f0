"""``caffecompat upgrade-net``: a net definition or model of an older generation as today's."""

from __future__ import annotations

import argparse
import sys

HELP = "rewrite an old net definition (prototxt) or model (binary) in today's form"
EXAMPLE = """  caffecompat upgrade-net old_train_val.prototxt train_val.prototxt
  caffecompat upgrade-net old.caffemodel new.caffemodel     (binary, recognised by content)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="net definition or model of any generation")
    parser.add_argument("target", help="file to write, text or binary as the source")
    parser.add_argument(
        "--binary",
        action="store_true",
        help="the source is binary; by default its content tells",
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.proto import files

    if not arguments.binary and files.is_text(arguments.source):
        net, source = files.read_upgraded(arguments.source, "NetParameter")
        files.write_text(net, arguments.target)
        return report(arguments.source, arguments.target, source.notes)
    from caffecompat.proto.binary_nets import upgrade_binary_net

    net, dialect, told, notes = upgrade_binary_net(arguments.source)
    files.write_binary(net, arguments.target, dialect)
    for line in told:
        print(line)
    return report(arguments.source, arguments.target, notes)


def report(source: str, target: str, notes: list[str] | tuple[str, ...]) -> int:
    """Prints what was done, one line each, problems on stderr; 1 if something was lost, else 0."""
    from caffecompat.proto.upgrades import Problem

    problems = [note for note in notes if isinstance(note, Problem)]
    for note in notes:
        print(note, file=sys.stderr if isinstance(note, Problem) else sys.stdout)
    if not notes:
        print(f"{source} is in today's form already")
    print(f"wrote {target}")
    if problems:
        count = len(problems)
        what = "setting" if count == 1 else "settings"
        print(f"{count} {what} could not be kept, see above", file=sys.stderr)
    return 1 if problems else 0
