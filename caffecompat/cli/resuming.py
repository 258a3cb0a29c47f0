"""The command that resumes a training that was stopped."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

# Flags that the snapshot replaces.
_REPLACED = ("snapshot", "weights", "layers", "on_mismatch")


def resume_command(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, snapshot: str
) -> str:
    """A line for a shell: the same training, from ``snapshot``.

    Args:
        parser: the one that has parsed ``arguments``.
    """
    words = [*_program(), "train"]
    for action in parser._actions:
        value = getattr(arguments, action.dest, None)
        if action.dest in (*_REPLACED, "help") or value == parser.get_default(action.dest):
            continue
        if action.nargs != 0:
            words += [action.option_strings[0], str(value)]
        elif action.const == value and not _has_value_flag(parser, action):
            words.append(action.option_strings[0])
    return shlex.join([*words, "--snapshot", snapshot])


def _has_value_flag(parser: argparse.ArgumentParser, action: argparse.Action) -> bool:
    """Whether another flag sets the same value as the switch ``action``, as --gpu for --cpu."""
    return any(other.dest == action.dest and other.nargs != 0 for other in parser._actions)


def _program(argv: Sequence[str] | None = None) -> list[str]:
    """How this program was started: a script, or a module of a Python."""
    script = (sys.argv if argv is None else argv)[0]
    name = os.path.basename(script)
    if name == "__main__.py" or not os.access(script, os.X_OK):
        return [sys.executable, "-m", "caffecompat"]
    found = shutil.which(name)
    known = found is not None and os.path.realpath(found) == os.path.realpath(script)
    return [name if known else script]
