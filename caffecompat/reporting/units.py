"""Formats for numbers, byte sizes, durations and shapes in messages."""

from __future__ import annotations

from collections.abc import Iterable

_WORDS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
_DURATIONS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))


def rounded(count: int) -> str:
    """A number with three significant digits in words: ``138 million``; exact below 10,000."""
    if abs(count) < 10_000:
        return f"{count:,}"
    # The word is chosen after rounding: 999,999 is 1 million, not 1e+03 thousand.
    shown = float(f"{count:.3g}")
    size, word = next((s, w) for s, w in _WORDS if abs(shown) >= s)
    in_words = shown / size
    return f"{in_words:.3g} {word}" if in_words < 1000 else f"{count / size:,.0f} {word}"


def counted(count: int, noun: str) -> str:
    """A number and its noun: ``1 difference``, ``2 differences``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_bytes(count: float) -> str:
    """A size on disk in units of 1000 bytes: ``1.5 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_memory(count: float) -> str:
    """A size in memory in units of 1024 bytes, as torch and nvidia-smi report it: ``1.53 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while count >= 1000 and power < len(units) - 1:
        count, power = count / 1024, power + 1
    return f"{count:.3g} {units[power]}"


def duration(seconds: float) -> str:
    """A duration as text: ``3.2 hours``."""
    for length, name in _DURATIONS:
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}"
    return counted(round(seconds), "second")


def format_shape(shape: Iterable[object]) -> str:
    """The extents of an array: ``64x3x7x7``; ``()`` for a scalar."""
    return "x".join(map(str, shape)) or "()"
