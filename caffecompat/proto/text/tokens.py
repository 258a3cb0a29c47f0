"""Splits prototxt text into tokens: names, numbers, strings and signs, one at a time.

No pattern here repeats a group without a bound: for each turn of such a group Python's regular
expressions keep a hundred bytes until the match ends, so that one token of 10 MB would take 1 GB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

NAME, NUMBER, STRING, SIGN, UNCLOSED, CURLY, STRAY, END = range(1, 9)

CLOSERS = {"{": "}", "<": ">", "[": "]"}

# Typographic quotes, and what Windows' encoding of them becomes where UTF-8 is expected.
CURLY_QUOTES = "\u201c\u201d\u201e\u2018\u2019\u201a\udc91\udc92\udc93\udc94"

_SPACE = re.compile(r"(?:[ \t\r\n\v\f]+|#[^\n]*){0,200}")
# A number is first taken with all characters attached to it ("0x1F", "1e-5f", "12ab"), so that a
# malformed one is a single token and a single mistake.
_TOKEN = re.compile(
    rf"""
      ([A-Za-z_][A-Za-z0-9_]*)
    | (\.?[0-9][A-Za-z0-9_.]*(?:(?<=[eE])[+-][0-9][A-Za-z0-9_.]*){{0,100}})
    | ("[^"\\\n]*"|'[^'\\\n]*')
    | ([{{}}<>\[\]:;,\-])
    | (["'])
    | ([{CURLY_QUOTES}][^\n"'{CURLY_QUOTES}]*[{CURLY_QUOTES}]?)
    | (.)
    """,
    re.VERBOSE | re.DOTALL,
)
# The content of strings, with a few escape sequences at most.
IN_DOUBLE = r"[^\"\\\n]*(?:\\.[^\"\\\n]*){0,20}"
IN_SINGLE = r"[^'\\\n]*(?:\\.[^'\\\n]*){0,20}"
# Characters of a string that are looked at together, at first and at most, and of its longest
# escape sequence.
_FIRST_PIECE, _LONGEST_PIECE = 1 << 8, 1 << 16
_LONGEST_ESCAPE = len(r"\U0001F600")
_HIGH_SURROGATE = re.compile(r"\\u[dD][89abAB]")
# Blocks without inner ones are skipped.
_NO_BRACE = re.compile(
    r"""(?:[^{}<>\[\]"'#]+|\{[^{}<>\[\]"'#]*\}|#[^\n]*|"[^"\\\n]*"|'[^'\\\n]*'){1,200}"""
)
# The characters attached to a word, such as the rest of a path without an opening quote.
_REST_OF_WORD = re.compile(r"""([^\s"'{}<>\[\],;:#]*)["']?""")
_BYTE_ORDER_MARK = "\ufeff"


class Tokens:
    """A place in a text, and the token that stands there.

    Attributes:
        text: the whole text.
        kind: of the token: ``NAME``, ``NUMBER``, ``STRING``, ``SIGN`` (braces, colon, separators,
            minus), ``UNCLOSED`` (a string without its closing quote), ``CURLY`` (a string in
            typographic quotes), ``STRAY`` (a character that has no place in prototxt), ``END``.
        word: its characters, a string with its quotes.
        start, end: its offsets in the text.
    """

    def __init__(self, text: str, begin: int = 0) -> None:
        self.text = text
        if begin == 0 and text.startswith(_BYTE_ORDER_MARK):
            begin = 1
        self.go_to(begin)

    def go_to(self, offset: int) -> None:
        """Reads the first token at or after ``offset``."""
        start = skip_space(self.text, offset)
        match = _TOKEN.match(self.text, start)
        self.start = start
        if match is None:
            self.kind, self.word, self.end = END, "", start
            return
        self.kind = match.lastindex or END
        self.word, self.end = match[0], match.end()
        if self.kind == UNCLOSED:
            self._read_string()

    def advance(self) -> None:
        """Goes to the next token."""
        self.go_to(self.end)

    def accept(self, sign: str) -> bool:
        """Skips ``sign`` if it stands here; whether it did."""
        if self.word != sign:
            return False
        self.go_to(self.end)
        return True

    def __iter__(self) -> Iterator[Tokens]:
        """Yields this object at each token, until the end."""
        while self.kind != END:
            yield self
            self.advance()

    def _read_string(self) -> None:
        """A string with escapes, or one that never ends: up to the end of the line."""
        quote = self.text[self.start]
        *_, end = pieces(self.text, self.start + 1, quote)
        if self.text[end : end + 1] == quote:
            self.kind, end = STRING, end + 1
        self.word, self.end = self.text[self.start : end], end


def skip_space(text: str, offset: int) -> int:
    """The offset of the first character after blanks and comments."""
    while True:
        match = _SPACE.match(text, offset)
        if match is None or match.end() == offset:
            return offset
        offset = match.end()


def pieces(text: str, start: int, quote: str) -> Iterator[int]:
    """Offsets that divide the content of a string into pieces and cut no escape sequence.

    The last one is where the string ends: at its closing quote, at the end of the line or of the
    text, or at a backslash before these.
    """
    size = _FIRST_PIECE
    while True:
        piece = text[start : start + size]
        # A piece never begins inside an escape sequence, so that pairs are found from its start.
        plain = piece.replace(r"\\", "..").replace("\\" + quote, "..")
        stops = [at for at in (plain.find(quote), plain.find("\n")) if at >= 0]
        if stops or len(piece) < size:
            end = min(stops, default=len(piece))
            yield start + end - plain.endswith("\\", 0, end)
            return
        last = plain.rfind("\\", size - _LONGEST_ESCAPE)
        if _HIGH_SURROGATE.match(plain, max(0, last - len(r"\uD83D"))):
            last -= len(r"\uD83D")  # the two escapes of a pair stand for one character
        start += last if last >= 0 else size
        yield start
        size = min(4 * size, _LONGEST_PIECE)


def next_brace(text: str, offset: int) -> int:
    """An offset at or before the next brace or bracket outside of strings, comments and blocks.

    Blocks without other braces inside are skipped.
    """
    while match := _NO_BRACE.match(text, offset):
        offset = match.end()
    return offset


def end_of_string(token: Tokens) -> int:
    """The offset after a string, or after an unclosed one.

    A closing brace inside an unclosed string counts as a brace, unless its opening brace is inside
    too: otherwise each missing quote would also be reported as a missing brace.
    """
    if token.kind == UNCLOSED:
        depth = 0
        for place, character in enumerate(token.word):
            depth += (character == "{") - (character == "}")
            if depth < 0:
                return token.start + place
    return token.end


def loose_word(token: Tokens) -> tuple[str, int]:
    """A name or number with the characters attached to it, and the offset after it.

    A quote at its end is skipped: the one at its beginning is missing.
    """
    match = _REST_OF_WORD.match(token.text, token.end)
    assert match is not None
    return token.word + match[1], match.end()


def is_list_of_several(token: Tokens) -> bool:
    """Whether a list of two values or more follows."""
    ahead = Tokens(token.text, token.start)
    ahead.accept(":")
    if not ahead.accept("["):
        return False
    ahead.advance()
    return ahead.word == ","
