"""Shards: the parts of each batch that several processes work on."""

from __future__ import annotations

from dataclasses import dataclass

from caffecompat.errors import DataError


@dataclass(frozen=True)
class SampleRange:
    """The samples of each pass that one process works on.

    Attributes:
        first: the first of them.
        count: how many there are.
        total: samples of all processes together.
    """

    first: int
    count: int
    total: int

    def of(self, samples: int) -> tuple[int, int]:
        """The first row and the number of rows in all processes, for a blob with ``samples`` here.

        A blob with a whole number of rows per sample, such as the regions of an image, has that
        number in each process. For any other blob each sample counts as ``samples`` rows, so that
        no two processes draw the same numbers.
        """
        if samples % self.count == 0:
            factor = samples // self.count
            return self.first * factor, self.total * factor
        return self.first * samples, self.total * samples


@dataclass(frozen=True)
class Shard:
    """Which part of each batch a process works on; by default all of it.

    The shards of all ranks, one after the other, are the batch; their sizes differ by at most one
    row.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many processes share each batch.

    Raises:
        DataError: there is no such rank.
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise DataError(
                f"rank is {self.rank} and world_size is {self.world_size}, "
                "expected 0 <= rank < world_size"
            )

    @property
    def is_whole(self) -> bool:
        """Whether this process works on all of each batch."""
        return self.world_size == 1

    def rows(self, batch_size: int, source: str) -> range:
        """The rows of a batch of ``batch_size`` that are this rank's.

        Args:
            source: where the rows come from, for messages.

        Raises:
            DataError: the batch has fewer rows than there are ranks.
        """
        if self.world_size > max(batch_size, 1):
            raise DataError(
                f"{source}: batch_size is {batch_size} for {self.world_size} ranks, so some would "
                "get no rows; make it larger, or use fewer ranks"
            )
        start = self.rank * batch_size // self.world_size
        return range(start, (self.rank + 1) * batch_size // self.world_size)

    def samples(self, batch_size: int, source: str) -> SampleRange:
        """The same as :meth:`rows`, as a range of samples."""
        rows = self.rows(batch_size, source)
        return SampleRange(rows.start, len(rows), batch_size)
