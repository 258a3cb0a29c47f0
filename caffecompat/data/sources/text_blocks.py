"""The samples of TokenizedData layers: blocks of characters of a text, by number.

Source of the semantics: MyCaffe's TokenizedData layer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.counter_rng import draw, pick
from caffecompat.errors import DataError
from caffecompat.input_files import MEBIBYTE, read_input

# On reading, a text that is mostly ASCII takes about ten times as much memory.
MAX_TEXT_BYTES = 1024 * MEBIBYTE


class TextBlocks:
    """A text, from which blocks of ``size`` + 1 characters are taken at random.

    The number of a character is its place among those of the text, sorted by code point.

    Attributes:
        count: how many places there are where a block may begin.
        positions: (1, size) float32, 0 to size - 1.

    Args:
        path: the text file, in UTF-8.
        size: characters of a block.
        seed: where a block begins is a function of it and of the sample's number.
        max_bytes: the largest size of the file; None for 1 GiB.

    Raises:
        FileProblem, FormatError: the file cannot be read, or is too large.
        DataError: it is no UTF-8, or too short for one block.
    """

    def __init__(self, path: str, size: int, seed: int, max_bytes: int | None = None) -> None:
        data = read_input(path, MAX_TEXT_BYTES if max_bytes is None else max_bytes)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            raise DataError(
                f"{path}: byte {problem.start} is not UTF-8; save the text as UTF-8"
            ) from None
        points = np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
        self.count = len(points) - (size + 1)
        if self.count < 1:
            raise DataError(
                f"{path}: {len(points)} characters are too few for blocks of {size}; it needs "
                f"{size + 2}, or a smaller block_size"
            )
        occurs = np.zeros(sys.maxunicode + 1, np.bool_)
        occurs[points] = True
        self._numbers = (np.cumsum(occurs, dtype=np.int32) - 1)[points]
        self._seed, self._size = seed, size
        self.positions: NDArray[Any] = np.arange(size, dtype=np.float32)[None]

    def blocks(self, samples: Sequence[int]) -> NDArray[Any]:
        """Numbers (len(samples), size + 1) float32: the characters and the one that follows."""
        drawn = draw(self._seed, np.array(samples, np.int64), "text block")
        begins = pick(drawn, self.count).astype(np.int64)
        taken = begins[:, None] + np.arange(self._size + 1)
        return self._numbers[taken].astype(np.float32)
