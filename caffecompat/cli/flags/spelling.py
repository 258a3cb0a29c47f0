"""Caffe's spellings of flags: one dash or two, ``=`` or a blank, underscores, ``--noflag``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

# Flags of the logging library of Caffe's tool, which old scripts give; they have no effect here.
_LOGGING_SWITCHES = {"logtostderr", "alsologtostderr", "colorlogtostderr", "log-prefix"}
_LOGGING_FLAGS = {"minloglevel", "stderrthreshold", "log-dir", "logbuflevel", "v", "vmodule"}
_TRUE = {"true", "t", "1", "yes", "y"}
_FALSE = {"false", "f", "0", "no", "n"}


def normalise(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Arguments as ``parser`` expects them.

    Known flags get two dashes and dashes for underscores; a switch may be given as ``--gray``,
    ``--gray=true``, ``--gray=false`` or ``--nogray``, of which the last one counts. Flags of
    Caffe's logging library are dropped. Everything else is left alone, so that the parser
    reports it.
    """
    flags, switches, lists = _options(parser)
    result: list[str] = []
    switched: dict[str, int | None] = {}
    words = iter(arguments)
    for word in words:
        if word == "--":
            result.extend([word, *words])
            break
        name, _, value = word.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if not word.startswith("-"):
            result.append(word)
        elif name in flags:
            result.extend(_flag(name, word, value, words))
        elif name in lists:
            result.extend([f"--{name}", value] if "=" in word else [f"--{name}"])
        elif name in switches and (not value or value.lower() in _TRUE | _FALSE):
            switched[name] = len(result) if value.lower() not in _FALSE else None
        elif name.startswith("no") and name[2:] in switches and not value:
            switched[name[2:]] = None
        elif name.removeprefix("no") in _LOGGING_SWITCHES:
            continue
        elif name in _LOGGING_FLAGS:
            if "=" not in word:
                next(words, None)
        else:
            result.append(word)
    for name, place in sorted(switched.items(), key=lambda item: -(item[1] or 0)):
        if place is not None:
            result.insert(place, f"--{name}")
    return result


def _flag(name: str, word: str, value: str, words: Iterator[str]) -> list[str]:
    """A flag joined with its value, so that a value such as ``-1`` is not taken for a flag."""
    if "=" not in word:
        following = next(words, None)
        if following is None:
            return [f"--{name}"]
        value = following
    return [f"--{name}={value}"]


def _options(parser: argparse.ArgumentParser) -> tuple[set[str], set[str], set[str]]:
    """Names of the parser's long flags that take a value, that take none, that take several.

    Those of sub-commands count too; ``--help`` does not: its position decides whose help it is.
    """
    flags: set[str] = set()
    switches: set[str] = set()
    lists: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                for names, more in zip((flags, switches, lists), _options(part), strict=True):
                    names |= more
            continue
        if action.dest == "help":
            continue
        kind = switches if action.nargs == 0 else lists if action.nargs in ("+", "*") else flags
        kind.update(option[2:] for option in action.option_strings if option.startswith("--"))
    return flags, switches, lists
