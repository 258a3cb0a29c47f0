"""Numbers in words."""

from __future__ import annotations

_WORDS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))


def rounded(count: int) -> str:
    """A number in three digits and a word: ``138 million``; below ten thousand as it is."""
    if abs(count) < 10_000:
        return f"{count:,}"
    # The rounded value chooses the word: 999,999 is 1 million, not 1e+03 thousand.
    shown = float(f"{count:.3g}")
    size, word = next((s, w) for s, w in _WORDS if abs(shown) >= s)
    in_words = shown / size
    return f"{in_words:.3g} {word}" if in_words < 1000 else f"{count / size:,.0f} {word}"


def counted(count: int, noun: str) -> str:
    """``1 difference``, ``2 differences``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
