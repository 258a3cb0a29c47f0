"""The text of a message, divided into what may differ in messages alike and what may not."""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

from caffecompat.proto.descriptors import Field
from caffecompat.proto.text.repeats.templates import GAP, Values
from caffecompat.proto.text.repeats.value_runs import NEXT
from caffecompat.proto.text.tokens import IN_DOUBLE, IN_SINGLE

# Longer messages, and those of more values or fields, are not compared.
_LONGEST = 8000
_MOST_VALUES = 250
_FOLLOWING = re.compile(NEXT, re.ASCII)
_STRING = f"\"{IN_DOUBLE}\"|'{IN_SINGLE}'"
_COMMENT_OR_STRING = re.compile(rf"#[^\n]*|{_STRING}")
# What may have braces inside, and braces. A block is not longer than these patterns may repeat.
_STRUCTURE = re.compile(
    r"""[{}]|#[^\n]*|"[^"\\\n]*(?:\\.[^"\\\n]*)*"|'[^'\\\n]*(?:\\.[^'\\\n]*)*'"""
)
# More braces are looked at with care for strings and comments.
_MOST_BRACES = 40
_BLANKS = re.compile(r"\s+", re.ASCII)
# Comments may stand at each end of a line of a message that has one.
_BLANK, _COMMENTED_BLANK = r"\s+", r"\s+(?:#[^\n]*\n\s*){0,9}"
# What may differ. The first character tells which of the three it is.
_NUMBER = "-?[.0-9][-+.0-9A-Za-z]*"
_VALUE = re.compile(rf"({_STRING}|(?<=[:\s\[,]){_NUMBER}(?=[\s;,}}\]]))", re.ASCII)
_IN_QUOTES = {'"': f'"({IN_DOUBLE})"', "'": f"'({IN_SINGLE})'"}
_IN_QUOTES_WITHOUT_ESCAPES = {'"': r'"([^"\\\n]*)"', "'": r"'([^'\\\n]*)'"}
Key: TypeAlias = tuple[Field, str, str]


class Block(NamedTuple):
    """The text of a message.

    Attributes:
        key: equal for blocks that differ in strings, numbers and comments only: the field, the text
            without these, and for each value its quote or a 0.
        values: the content of the strings, and the numbers.
        end: offset behind its closing brace.
        following: offset of what follows, behind separators and comments.
        commented: whether there is a comment in it.
    """

    key: Key
    values: Values
    end: int
    following: int
    commented: bool


def find_block(text: str, start: int, target: Field) -> Block | None:
    """The block that begins at an offset; None for one that is too large or in any way unusual.

    What stands between two strings of many escapes may be taken for a string. That does no harm:
    quotes are left then, and such a text is never equal to one that was parsed and is all ordinary.

    Args:
        text: the prototxt.
        start: offset behind an opening brace.
        target: the field.
    """
    end, commented = _nearest_closing_brace(text, start), False
    pieces = _VALUE.split(text[start:end])
    if not _are_plain(pieces):
        end, commented = _closing_brace(text, start)
        pieces = _VALUE.split(_COMMENT_OR_STRING.sub(_without_comment, text[start:end]))
    following = _FOLLOWING.match(text, end) if end else None
    written, words = pieces[1::2], GAP.join(pieces[::2])
    if following is None or len(written) > _MOST_VALUES:
        return None
    kinds, values = "", []
    for value in written:
        if value[0] in "\"'":
            kinds += value[0]
            values.append(value[1:-1])
        else:
            kinds += "0"
            values.append(value)
    return Block((target, words, kinds), tuple(values), end, following.end(), commented)


class Traits(NamedTuple):
    """What a pattern is not made for without need, as it takes time.

    Attributes:
        commented: comments.
        escaped: the indices of values with escape sequences.
    """

    commented: bool = False
    escaped: frozenset[int] = frozenset()

    def with_those_of(self, block: Block) -> Traits:
        """These, and those of a block."""
        escaped = {index for index, value in enumerate(block.values) if "\\" in value}
        return Traits(self.commented or block.commented, self.escaped | escaped)


def block_pattern(key: Key, patterns: list[str], traits: Traits) -> re.Pattern[str]:
    """Finds blocks of a key with what follows them, with a group for each value.

    Args:
        key: of the blocks.
        patterns: for each value the regular expression that its field wants; empty for any.
        traits: what blocks may have.
    """
    target, words, kinds = key
    first, *others = (_escaped(piece, traits.commented) for piece in words.split(GAP))
    written = rf"{target.name}\s*(?::\s*)?\{{{first}"
    for index, (kind, piece) in enumerate(zip(kinds, others, strict=True)):
        quoted = _IN_QUOTES if index in traits.escaped else _IN_QUOTES_WITHOUT_ESCAPES
        written += (quoted.get(kind) or f"({patterns[index] or _NUMBER})") + piece
    return re.compile(written + NEXT, re.ASCII)


def field_pattern(target: Field, quote: str, pattern: str) -> re.Pattern[str]:
    """Finds a field with its value, the only group, and what follows it.

    Args:
        target: the field.
        quote: what is around its strings; empty for numbers.
        pattern: a regular expression for numbers.
    """
    value = _IN_QUOTES.get(quote) or rf"({pattern})(?=[\s;,#])"
    return re.compile(rf"{target.name}\s*:\s*{value}{NEXT}", re.ASCII)


def without_blanks(key: Key) -> Key:
    """The key of blocks that differ in blanks, too."""
    target, words, kinds = key
    return target, _BLANKS.sub(" ", words), kinds


def _escaped(piece: str, commented: bool) -> str:
    words, blanks = _BLANKS.split(piece), _BLANKS.findall(piece)
    # A comment ends a line.
    between = [_COMMENTED_BLANK if commented and "\n" in blank else _BLANK for blank in blanks]
    return "".join(
        re.escape(word) + blank for word, blank in zip(words, [*between, ""], strict=True)
    )


def _without_comment(match: re.Match[str]) -> str:
    return "" if match[0][0] == "#" else match[0]


def _nearest_closing_brace(text: str, start: int) -> int:
    """The offset behind the brace that closes what is open at ``start``; 0 if it is far away.

    Braces in comments and strings count.
    """
    depth, at, limit = 1, start, start + _LONGEST
    for _ in range(_MOST_BRACES):
        brace = text.find("}", at, limit)
        if brace < 0:
            break
        depth += text.count("{", at, brace) - 1
        at = brace + 1
        if not depth:
            return at
    return 0


def _are_plain(pieces: list[str]) -> bool:
    """Whether text up to a closing brace has no comment, and no brace in a string.

    Args:
        pieces: what is between the values, and these.
    """
    words = "".join(pieces[::2])
    return "#" not in words and words.count("}") == words.count("{") + 1


def _closing_brace(text: str, start: int) -> tuple[int, bool]:
    """The same outside of comments and strings; and whether there is a comment before it."""
    depth, commented = 1, False
    for match in _STRUCTURE.finditer(text, start, start + _LONGEST):
        sign = match[0][0]
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if not depth:
                return match.end(), commented
        elif sign == "#":
            commented = True
    return 0, commented
