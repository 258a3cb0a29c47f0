"""TokenizedData: blocks of characters of a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers._source import Source

if TYPE_CHECKING:
    from caffecompat.layers._base import Array


@register("TokenizedData", fork="MyCaffe")
class TokenizedData(Source):
    """Random blocks of a text file: characters, their positions, and the characters that follow.

    A character's number is its place among the sorted characters of the file. Tops: characters
    (``batch_size``, ``block_size``), positions 0 to block_size - 1 as (1, block_size), and the next
    character for each (batch_size, block_size). Where a block begins is a pure function of the seed
    and the sample's number; ``seed`` has no effect. Backslashes in ``source`` are separators.
    Later versions of MyCaffe count from 1 and keep 0 for padding: their ``input_dim`` is larger by
    1. Source: MyCaffe's TokenizedData layer.
    """

    tops = exactly(3)
    batch_param = "tokenized_data_param"
    fork_fields = ("tokenized_data_param",)
    reads_shard = True

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        from caffecompat.data.sources.text_blocks import TextBlocks

        p = message.tokenized_data_param
        for name in ("batch_size", "block_size"):
            self.check(getattr(p, name) > 0, f"{name} is missing or 0, it must be positive")
        self.check(
            not p.debug_index_file, "debug_index_file is not supported; remove it for random blocks"
        )
        options = self.context.options
        self.rows, self.size = p.batch_size, p.block_size
        self.own = options.shard.rows(self.rows, self.context.place)
        path = p.source.replace("\\", os.sep)
        self.text: TextBlocks | None = None
        if not (options.shapes_only and not os.path.exists(path)):
            with errors_at(self.context.place):
                self.text = TextBlocks(path, self.size, options.seed, options.max_bytes)
        self.shapes = [(len(self.own), self.size), (1, self.size), (len(self.own), self.size)]

    @property
    def constant_tops(self) -> Sequence[int]:
        return (1,)

    @property
    def records(self) -> int | None:
        return None if self.text is None else self.text.count

    def read(self, index: int) -> Sequence[Array]:
        self.check_opened(self.text)
        assert self.text is not None
        first = index * self.rows
        blocks = self.text.blocks(range(first + self.own.start, first + self.own.stop))
        return [blocks[:, :-1], self.text.positions, blocks[:, 1:]]
