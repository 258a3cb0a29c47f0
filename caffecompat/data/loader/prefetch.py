"""Batches of a run, made ahead of time by background threads."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType

from caffecompat.data.backends.database import Database, open_database
from caffecompat.data.loader.batch import Batch, BatchMaker, Draft
from caffecompat.data.sources.base import DatabaseSamples, Samples
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message

log = logging.getLogger(__name__)

_MOST_WORKERS = 16
# Tasks per worker and batch: few enough to cost nothing, many enough to end at the same time.
_TASKS_PER_WORKER = 4


class BatchReader:
    """The batches of a run, by index; the same whatever the number of workers.

    Asking for 0, 1, 2, ... is fast: threads read and decode ahead. Asking for any other index
    gives the same batch as counting up to it would, and reading ahead goes on from there.

    Use it from one thread. It owns the source, and both are closed by :meth:`close`, by
    leaving a ``with`` block, or when the reader is garbage; threads never outlive it.

    Args:
        source: a database, or other samples.
        transform: what happens to each.
        batch_size: records per batch, of all ranks together.
        seed: of everything that chance decides.
        workers: threads that decode; None takes one per usable core, at most 16.
        prefetch: how many batches may be ready or in the making before they are asked for.
        skip_corrupt: let the next good record in order stand in for one that cannot be read or
            decoded, whatever the number of workers; each one is logged once. Records of an
            unfit size are errors all the same.
        rank, ranks: of ``ranks`` readers, each in a process of its own, number ``rank`` (from 0)
            gives its slice of every batch. The slices, one after the other, are the batch that
            one reader would give, pixel for pixel; their sizes differ by at most one.

    Attributes:
        skipped: how many samples of the batches asked for so far are stand-ins.

    Raises:
        DataError: the database is empty; batch_size, workers or prefetch is below 1; there is no
            such rank, or the batch has fewer records than there are ranks.
    """

    def __init__(
        self,
        source: Database | Samples,
        transform: Transform,
        batch_size: int,
        seed: int,
        workers: int | None = None,
        prefetch: int = 4,
        skip_corrupt: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        samples = source if isinstance(source, Samples) else DatabaseSamples(source, transform)
        self._maker = BatchMaker(samples, transform, batch_size, seed, skip_corrupt, rank, ranks)
        self.skipped = 0
        self._told: set[str] = set()
        self._workers = _usable_cores() if workers is None else workers
        self._prefetch = prefetch
        if self._workers < 1 or prefetch < 1:
            raise DataError(
                f"{samples.path}: workers is {self._workers} and prefetch is {prefetch}, "
                "expected 1 or more of each"
            )
        self._stop: Callable[[], object] | None = None
        self._ahead: _Ahead | None = None
        self._next = 0
        self._closed = False

    def leave_arithmetic(self, wanted: bool) -> None:
        """Whether the blob of the next batches may be crops that are computed later.

        Those are :class:`caffecompat.data.transforms.deferred_crops.Crops`.

        Batches that are in the making stay as they are.
        """
        self._maker.bytes_wanted = wanted

    @property
    def records(self) -> int:
        """How many records the source has."""
        return len(self._maker.samples)

    def shape(self, index: int = 0) -> tuple[int, int, int, int]:
        """The shape of this rank's data of batch ``index``; reads one record, starts no thread."""
        return self._maker.shape(index)

    def batch(self, index: int) -> Batch:
        """This rank's slice of batch ``index`` (0, 1, ...); its arrays belong to the caller.

        Raises:
            DataError: a record of this batch cannot be used, or the reader is closed. A faulty
                record in a later batch does not matter before that batch is asked for.
        """
        if self._closed:
            raise DataError(f"{self._maker.samples.path}: the reader has been closed")
        if index < 0:
            raise DataError(f"{self._maker.samples.path}: batch {index}, expected 0 or more")
        if self._ahead is None or index != self._next:
            self._restart(index)
        assert self._ahead is not None
        try:
            batch = self._ahead.take()
        except BaseException:
            # Ctrl-C too: what was half taken is lost, so the next call begins anew.
            self._halt()
            raise
        self._next = index + 1
        self._count_skipped(batch)
        return batch

    def close(self) -> None:
        """End the threads and close the database; may be called twice."""
        self._closed = True
        self._halt()
        self._maker.samples.close()

    def __enter__(self) -> BatchReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _count_skipped(self, batch: Batch) -> None:
        self.skipped += len({row for row, _ in batch.skipped})
        for _, sentence in batch.skipped:
            if sentence not in self._told:
                self._told.add(sentence)
                log.warning("skipped: %s", sentence)

    def _restart(self, index: int) -> None:
        self._halt()
        ahead = _Ahead(self._maker, index, self._workers, self._prefetch)
        # Runs at garbage collection and at exit; must not refer to the reader itself.
        self._stop = weakref.finalize(self, ahead.stop)
        self._ahead = ahead

    def _halt(self) -> None:
        if self._stop is not None:
            self._stop()
        self._stop = None
        self._ahead = None


def open_reader(
    layer: Message,
    phase: str,
    seed: int,
    workers: int | None = None,
    skip_corrupt: bool = False,
    rank: int = 0,
    ranks: int = 1,
) -> BatchReader:
    """The reader that a Data layer's ``data_param`` and ``transform_param`` describe.

    ``rand_skip``, ``force_encoded_color`` and the transform fields of ``data_param`` have no
    effect, as in Caffe.

    Args:
        layer: a LayerParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.
        seed: of everything that chance decides.
        workers, skip_corrupt, rank, ranks: as in :class:`BatchReader`.

    Raises:
        FileProblem, FormatError, DataError: the database or the mean file cannot be used.
    """
    parameter = layer.data_param
    transform = Transform(layer.transform_param, phase)
    names = {number: name for name, number in schema.enum_names("DataParameter.DB").items()}
    database = open_database(parameter.source, names[parameter.backend])
    try:
        return BatchReader(
            *(database, transform, parameter.batch_size, seed, workers, parameter.prefetch),
            skip_corrupt=skip_corrupt,
            rank=rank,
            ranks=ranks,
        )
    except DataError:
        database.close()
        raise


class _Pending:
    """A batch in the making: one outcome arrives in ``outcomes`` per task."""

    def __init__(self) -> None:
        self.draft: Draft | None = None
        self.tasks = 1
        # A queue that is safe to use from a garbage collector, unlike locks and events: a
        # reader may become garbage at any point of any of its own threads.
        self.outcomes: SimpleQueue[tuple[int, Exception | None]] = SimpleQueue()

    def wait(self) -> Draft:
        """The draft, once all its tasks are done; raises the error of the earliest row."""
        outcomes = [self.outcomes.get() for _ in range(self.tasks)]
        failures = [(row, error) for row, error in outcomes if error is not None]
        if failures:
            raise min(failures, key=lambda failure: failure[0])[1]
        assert self.draft is not None
        return self.draft


class _Ahead:
    """Threads that make the batches ``start``, ``start + 1``, ... in advance.

    One thread reads records in order, as Caffe's does, and hands rows to the workers. It may be
    ``depth`` batches ahead of the consumer.
    """

    def __init__(self, maker: BatchMaker, start: int, workers: int, depth: int) -> None:
        self._maker = maker
        self._stopping = False
        self._rows_per_task = -(-maker.rows // (workers * _TASKS_PER_WORKER))
        self._room: SimpleQueue[None] = SimpleQueue()
        self._ready: SimpleQueue[_Pending] = SimpleQueue()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for _ in range(depth):
            self._room.put(None)
        # Daemons, as otherwise the interpreter would wait for them before it stops them.
        self._threads = [
            threading.Thread(
                target=self._work, name=f"caffecompat-data-worker-{number}", daemon=True
            )
            for number in range(workers)
        ]
        self._threads.append(
            threading.Thread(
                target=self._read, args=(start,), name="caffecompat-data-reader", daemon=True
            )
        )
        for thread in self._threads:
            thread.start()

    def take(self) -> Batch:
        """The next batch, waiting for it if need be."""
        pending = self._ready.get()
        self._room.put(None)
        return self._maker.finished(pending.wait())

    def stop(self) -> None:
        """End all threads; a worker finishes its record, the reader its batch."""
        self._stopping = True
        self._room.put(None)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _read(self, index: int) -> None:
        while True:
            self._room.get()
            if self._stopping:
                return
            pending = _Pending()
            try:
                draft = self._maker.draft(index)
            except Exception as error:
                pending.outcomes.put((0, error))
            else:
                self._hand_out(pending, draft)
            self._ready.put(pending)
            index += 1

    def _hand_out(self, pending: _Pending, draft: Draft) -> None:
        starts = range(0, self._maker.rows, self._rows_per_task)
        pending.draft = draft
        pending.tasks = len(starts)
        for start in starts:
            rows = range(start, min(start + self._rows_per_task, self._maker.rows))
            self._tasks.put(_task(self, pending, draft, rows))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def fill(self, pending: _Pending, draft: Draft, rows: range) -> None:
        """Fill some rows of a batch and tell ``pending`` how it went."""
        row = rows.start
        try:
            for row in rows:
                if self._stopping:
                    return
                self._maker.fill(draft, row)
            pending.outcomes.put((row, None))
        except Exception as error:
            pending.outcomes.put((row, error))


def _task(ahead: _Ahead, pending: _Pending, draft: Draft, rows: range) -> Callable[[], None]:
    return lambda: ahead.fill(pending, draft, rows)


def _usable_cores() -> int:
    # Containers and job schedulers often allow fewer cores than the machine has.
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    # torchrun says how many ranks share this machine's cores.
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    share = cores // int(ranks) if ranks.isdigit() and int(ranks) else cores
    return max(1, min(share, _MOST_WORKERS))
