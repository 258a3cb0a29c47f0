"""Which public forks of Caffe define a layer type, and how to write one of one's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_TABLE = Path(__file__).with_name("known_types.tsv")

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
