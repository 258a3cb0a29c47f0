"""Which public forks of Caffe define a layer type, and how to write one of one's own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("known_types.tsv")

# Names that are less alike than this are hardly a typing mistake.
_LIKENESS = 0.75

_LAYER = """from caffecompat.layers import Layer, exactly, register


@register({name!r})
class Mine(Layer):
    bottoms, tops = exactly({bottoms}), exactly({tops})

    def forward(self, {arguments}):
        return {result}  # what the layer computes, with torch
"""

_SOURCE = """import torch

from caffecompat.layers import Source, exactly, register


@register({name!r})
class Mine(Source):
    tops = exactly({tops})

    def setup(self, message, bottoms):
        self.shapes = [(1, 3, 224, 224)] * {tops}

    def read(self, index):
        return [torch.zeros(shape) for shape in self.shapes]
"""


@cache
def _forks() -> dict[str, str]:
    rows = [line.split("\t") for line in _TABLE.read_text().splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2 and row[0] != "type"}


def forks_of(type_name: str) -> str:
    """The forks that define a layer type, separated by commas; empty if none is known."""
    return _forks().get(type_name, "")


def origin_of(type_name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown layer type: whose it is, or what may be meant.

    Args:
        type_name: the type.
        known: the types that exist.
    """
    forks = forks_of(type_name)
    if forks:
        return f"; it is defined by {forks}"
    near = _nearest(type_name, known)
    if near:
        return f"; did you mean {near!r}?"
    return "; no fork that defines it is known here"


def _nearest(type_name: str, known: Iterable[str]) -> str:
    """The known type of which this one is a misspelling or a longer or shorter form, or ""."""
    lower = type_name.lower()
    by_fold = {name.partition(" (")[0].lower(): name.partition(" (")[0] for name in known}
    near = difflib.get_close_matches(lower, by_fold, n=1, cutoff=_LIKENESS)
    if not near:
        near = [name for name in by_fold if len(name) > 3 and lower.startswith(name)]
        near.sort(key=len, reverse=True)
    return by_fold[near[0]] if near else ""


def layer_to_start_from(type_name: str, bottoms: int, tops: int) -> str:
    """The source of a layer type of one's own, which runs as it stands.

    It returns its first bottom for each top; without bottoms it gives zeros as data.
    """
    if not bottoms:
        return _SOURCE.format(name=type_name, tops=tops)
    names = [f"x{i}" for i in range(bottoms)] if bottoms > 1 else ["x"]
    result = ", ".join([names[0]] * max(tops, 1))
    return _LAYER.format(
        name=type_name, bottoms=bottoms, tops=tops, arguments=", ".join(names), result=result
    )
