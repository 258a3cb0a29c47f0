"""Errors about values of bottoms that are used as indices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.layers._base import Layer


@contextmanager
def explaining_bad_index(layer: Layer, sentence: str) -> Iterator[None]:
    """Turns torch's error about an index out of range into ``sentence``.

    Raises:
        LayerError: an index is out of range, on a CPU. On a GPU torch reports a failed assertion
            later.
    """
    try:
        yield
    except (IndexError, RuntimeError) as problem:
        if any(words in str(problem) for words in ("out of bounds", "out of range")):
            layer.refuse(sentence)
        raise
