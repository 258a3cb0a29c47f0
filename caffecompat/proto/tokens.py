"""Splits prototxt text into tokens: names, numbers, strings and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME, NUMBER, STRING, SIGN, UNCLOSED, STRAY, END = range(1, 8)

# A number is first taken as everything that hangs together ("0x1F", "1e-5f", "12ab"), so that a
# malformed one is a single token and a single mistake.
_TOKEN = re.compile(
    r"""
    (?: [ \t\r\n\v\f]+ | \#[^\n]* )*
    (?: ([A-Za-z_][A-Za-z0-9_]*)
      | (\.?[0-9] (?: [eE][+-][0-9] | [A-Za-z0-9_.] )*)
      | ( "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
      | ([{}<>\[\]:;,\-])
      | ( "(?:[^"\\\n]|\\.)* | '(?:[^'\\\n]|\\.)* )
      | (.)
      | (\Z)
    )
    """,
    re.VERBOSE,
)
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text as three lists of equal length; the last token is ``END``.

    Attributes:
        kinds: one of ``NAME``, ``NUMBER``, ``STRING``, ``SIGN`` (braces, colon, separators,
            minus), ``UNCLOSED`` (a string without its closing quote), ``STRAY`` (a character that
            has no place in prototxt), ``END``.
        texts: the characters of each token, strings with their quotes.
        starts: offset of each token in the text.
    """

    kinds: list[int]
    texts: list[str]
    starts: list[int]


def tokenize(text: str) -> Tokens:
    """Split ``text``; never fails, what cannot be a token becomes ``UNCLOSED`` or ``STRAY``."""
    kinds: list[int] = []
    texts: list[str] = []
    starts: list[int] = []
    begin = 1 if text.startswith(_BYTE_ORDER_MARK) else 0
    for match in _TOKEN.finditer(text, begin):
        kind = match.lastindex or END
        kinds.append(kind)
        texts.append(match[kind])
        starts.append(match.start(kind))
    return Tokens(kinds, texts, starts)
