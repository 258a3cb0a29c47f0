"""The rows of a batch that each process reads in distributed training."""

from __future__ import annotations

from caffecompat.errors import DataError


def shard(batch_size: int, rank: int, ranks: int, source: str) -> range:
    """The rows of each global batch that process ``rank`` of ``ranks`` reads.

    The shards of all ranks in order form the batch; their sizes differ by at most one.

    Args:
        batch_size: rows of the global batch.
        rank, ranks: the process's number from 0 on, and the number of processes.
        source: the path of the data, for messages.

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
