"""Skips values that cannot be stored: those of unknown fields and those of a wrong type."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.proto.text.ordinary import DEEPEST
from caffecompat.proto.text.parse_state import OpenMessage
from caffecompat.proto.text.reporter import Reporter
from caffecompat.proto.text.tokens import (
    CLOSERS,
    CURLY,
    END,
    NAME,
    NUMBER,
    STRING,
    UNCLOSED,
    Tokens,
    end_of_string,
    loose_word,
    next_brace,
)


def skip_value(token: Tokens, around: Sequence[OpenMessage], reporter: Reporter) -> int:
    """Moves ``token`` behind one value of any kind; leaves it where no value begins.

    Args:
        around: the messages around the value, outermost first.

    Returns:
        The number of brackets in the value.

    Raises:
        UnreadableError: braces inside the value do not match, or are nested too deep.
    """
    token.accept("-")
    if token.kind in (STRING, UNCLOSED, CURLY):
        while token.kind in (STRING, UNCLOSED, CURLY):
            token.go_to(end_of_string(token))
    elif token.kind in (NAME, NUMBER):
        token.go_to(loose_word(token)[1])
    elif token.word in CLOSERS:
        return _skip_braces(token, around, reporter)
    return 0


def _skip_braces(token: Tokens, around: Sequence[OpenMessage], reporter: Reporter) -> int:
    expected: list[str] = []
    begin, count = token.start, 0
    while True:
        count += 1
        if token.kind == END:
            reporter.stop(begin, f"{around[-1].label}: a brace opened here is never closed")
        if token.word in CLOSERS:
            expected.append(CLOSERS[token.word])
            if len(expected) + len(around) > DEEPEST:
                reporter.stop(token.start, f"messages are nested more than {DEEPEST} deep")
        elif token.word in ("}", ">", "]") and token.word != expected.pop():
            reporter.stop(
                token.start, f"found {token.word!r}, which closes nothing; check the braces"
            )
        token.go_to(next_brace(token.text, token.end) if expected else token.end)
        if not expected:
            return count
