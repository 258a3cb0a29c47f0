"""A batch cut into one slice per process, for training on several devices."""

from __future__ import annotations

from caffecompat.errors import DataError


def shard(batch_size: int, rank: int, ranks: int, source: str) -> range:
    """The rows of each global batch that process ``rank`` of ``ranks`` (0, 1, ...) reads.

    The slices of all ranks, one after the other, are the batch; their sizes differ by at most one.

    Args:
        batch_size: rows of the global batch.
        rank, ranks: which process of how many.
        source: where the rows come from, for messages.

    Raises:
        DataError: there is no such rank, or the batch has fewer rows than there are ranks.
    """
    if not 0 <= rank < ranks:
        raise DataError(
            f"{source}: rank is {rank} and ranks is {ranks}, expected 0 <= rank < ranks"
        )
    if ranks > max(batch_size, 1):
        raise DataError(
            f"{source}: batch_size is {batch_size} for {ranks} ranks, so some would get no rows; "
            "make it larger, or use fewer ranks"
        )
    return range(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)
