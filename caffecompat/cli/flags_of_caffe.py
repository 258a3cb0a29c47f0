"""Flags that Caffe's tool takes with each of its commands, and uses with some."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

# The commands of Caffe's tool, and its flags, all of which take a value.
_COMMANDS = {"train", "test", "time", "device-query"}
_FLAGS = {
    *("gpu", "solver", "model", "phase", "level", "stage", "snapshot", "weights", "iterations"),
    *("sigint_effect", "sighup_effect"),
}


def without_idle_flags(
    verb: str, words: Sequence[str], parser: argparse.ArgumentParser
) -> tuple[list[str], list[str]]:
    """Words without the flags of Caffe's tool that ``verb`` does not have.

    Args:
        verb: its name; for other verbs than the commands of Caffe's tool nothing changes.
        words: the arguments, in any of Caffe's spellings.
        parser: that of the verb.

    Returns:
        The other words, and the flags that were left out.
    """
    if verb not in _COMMANDS:
        return list(words), []
    known = _flags_of(parser)
    idle = {flag for flag in _FLAGS if f"--{flag.replace('_', '-')}" not in known}
    kept: list[str] = []
    left_out: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            kept.extend([word, *rest])
            break
        name, equals, _ = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("-") or name not in idle:
            kept.append(word)
            continue
        left_out.append(f"--{name}")
        if not equals:
            next(rest, None)
    return kept, left_out


def _flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """The long flags of a parser."""
    return {
        option
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--")
    }
