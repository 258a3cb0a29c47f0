"""Flags that Caffe's tool takes with each of its commands, and uses with some."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

# The commands of Caffe's tool, and its flags, all of which take a value.
_COMMANDS = {"train", "test", "time", "device-query"}
_FLAGS = (
    *("gpu", "solver", "model", "phase", "level", "stage", "snapshot", "weights", "iterations"),
    *("sigint-effect", "sighup-effect"),
)


def add_flags_of_caffe(parser: argparse.ArgumentParser, verb: str) -> None:
    """Adds those that the parser of one of Caffe's commands does not have; help leaves them out.

    Where one of them is given, a line on standard error says that it has no effect.
    """
    if verb not in _COMMANDS:
        return
    known = {option for action in parser._actions for option in action.option_strings}
    for flag in _FLAGS:
        if f"--{flag}" not in known:
            parser.add_argument(
                f"--{flag}",
                nargs="?",
                action=_Ignored,
                dest=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
                verb=verb,
            )


class _Ignored(argparse.Action):
    """Says that a flag of ``verb`` has no effect."""

    def __init__(self, *given: Any, verb: str, **more: Any) -> None:
        super().__init__(*given, **more)
        self._verb = verb

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        print(
            f"caffecompat: {self._verb} ignores {option_string}, as Caffe's {self._verb} does",
            file=sys.stderr,
        )
