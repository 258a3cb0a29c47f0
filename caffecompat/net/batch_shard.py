"""The rows and samples of each batch that belong to this rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffecompat.data.shard import SampleRange, Shard
from caffecompat.layers import Context, Layer, Shape, Source


def rows_of(layer: Layer, context: Context) -> list[slice] | None:
    """The rows of each top of a source that belong to this rank; None if the net keeps all rows.

    The net keeps all rows of sources with ``reads_shard`` and of inputs, for which the user sets
    this rank's values. The tops of other sources are sliced along their first axis.

    Raises:
        DataError: a top has fewer rows than there are ranks.
    """
    shard = context.options.shard
    if shard.is_whole or not isinstance(layer, Source) or layer.reads_shard or layer.is_input:
        return None
    rows = []
    for shape in layer.shapes:
        part = shard.rows(shape[0] if shape else 0, context.place)
        rows.append(slice(part.start, part.stop))
    return rows


def cut(shapes: Sequence[Shape], rows: Sequence[slice] | None) -> list[Shape]:
    """The shapes of tops after slicing them to ``rows``."""
    if rows is None:
        return list(shapes)
    pairs = zip(rows, shapes, strict=True)
    return [(part.stop - part.start, *shape[1:]) for part, shape in pairs]


def sample_range(layers: Sequence[Any], shard: Shard) -> SampleRange | None:
    """This rank's samples of each pass, according to the first source; None for one rank."""
    if shard.is_whole:
        return None
    for built in layers:
        if built.source is None or built.source.is_input or not built.shapes:
            continue
        total = built.source.batch_size(built.node.message) or built.source.shapes[0][0]
        return shard.samples(total, built.place)
    return SampleRange(shard.rank, 1, shard.world_size)
