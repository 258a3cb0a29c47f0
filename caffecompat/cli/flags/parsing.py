"""The parser of a verb's arguments: files may stand before, between and after the flags."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any

_NUMBER = re.compile(r"-\d+(\.\d*)?$|-\.\d+$")


class VerbParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that takes positional arguments anywhere among the flags.

    argparse gives positional arguments their words as soon as it meets one of them: in
    ``deploy SOURCE --batch 1 TARGET`` the optional TARGET gets nothing beside SOURCE, and is an
    unrecognized argument where it stands. Here the words of positional arguments are put
    together first. ``parse_intermixed_args``, which does that by parsing twice, knows no
    sub-commands and reports missing flags and missing files one after the other.

    Sub-commands have a parser of this class, too, and each parser orders its own words.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As in argparse, for words in any order."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(_ordered(words, self), namespace)


def _ordered(words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The words of positional arguments in one place, each flag with its values.

    Words are left as they are if there is an unknown flag, since only its author knows whether
    the word behind it is its value; so the error about it names the words in their order.
    """
    if any(isinstance(action, argparse._SubParsersAction) for action in parser._actions):
        return words
    flags: list[str] = []
    files: list[str] = []
    values = 0  # Words that the last flag may still take.
    for at, word in enumerate(words):
        if word == "--":
            return [*flags, "--", *files, *words[at + 1 :]]
        if _is_flag(word):
            action = parser._option_string_actions.get(word.partition("=")[0])
            if action is None:
                return words
            values = 0 if "=" in word else _most_values(action)
        elif values:
            values -= 1
        else:
            files.append(word)
            continue
        flags.append(word)
    return [*files, *flags]


def _is_flag(word: str) -> bool:
    """Whether argparse takes a word for a flag; ``-`` is standard input, ``-1`` a number."""
    return word.startswith("-") and word != "-" and not _NUMBER.match(word)


def _most_values(action: argparse.Action) -> int:
    """How many words a flag takes at most."""
    if action.nargs is None or action.nargs == argparse.OPTIONAL:
        return 1
    return action.nargs if isinstance(action.nargs, int) else 1 << 30
