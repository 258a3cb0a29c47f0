"""A net as one of several that share each batch: whose rows are whose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffecompat.data.shard import SampleRange, Shard
from caffecompat.layers import Context, Layer, Shape, Source


def rows_of(layer: Layer, context: Context) -> list[slice] | None:
    """Which rows of each top of a source belong to this rank; None where the source knows itself.

    What the other sources bring is cut along its first axis; the values of inputs are those that
    the net's user gives each rank.

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
    """The shapes of tops of which only ``rows`` are kept."""
    if rows is None:
        return list(shapes)
    pairs = zip(rows, shapes, strict=True)
    return [(part.stop - part.start, *shape[1:]) for part, shape in pairs]


def sample_range(layers: Sequence[Any], shard: Shard) -> SampleRange | None:
    """The samples of each pass that are this rank's, by the first source; None for one rank."""
    if shard.is_whole:
        return None
    for built in layers:
        if built.source is None or built.source.is_input or not built.shapes:
            continue
        total = built.source.batch_size(built.node.message) or built.source.shapes[0][0]
        return shard.samples(total, built.place)
    return SampleRange(shard.rank, 1, shard.world_size)
