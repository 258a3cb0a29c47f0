"""``caffecompat upgrade-net``: rewrites a net definition or model of an older generation."""

from __future__ import annotations

import argparse

from caffecompat.cli.upgrading import add_upgrade_arguments, is_binary, report, source_of
from caffecompat.reporting.terminal import printable

HELP = "rewrite an old net definition (prototxt) or model (binary) in today's form"
EXAMPLE = """  caffecompat upgrade-net old_train_val.prototxt train_val.prototxt
  caffecompat upgrade-net old.caffemodel new.caffemodel     (binary, recognised by content)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_upgrade_arguments(parser, "net definition or model")


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.proto import files
    from caffecompat.proto.binary.nets import upgrade_binary_net

    given = source_of(arguments)
    if is_binary(arguments, given):
        net, dialect, notes_on_dialect, notes = upgrade_binary_net(given, arguments.max_bytes)
        files.write_binary(net, arguments.target, dialect)
        for line in notes_on_dialect:
            print(printable(line))
        return report(arguments, notes)
    net, source = files.read_upgraded(given, "NetParameter", max_bytes=arguments.max_bytes)
    files.write_text(net, arguments.target)
    return report(arguments, source.notes)
