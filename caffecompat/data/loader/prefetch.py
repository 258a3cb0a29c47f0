"""Prefetching: background threads make the batches of a run in advance."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.images import compute_in_calling_threads
from caffecompat.data.loader.batch import Batch, BatchMaker, PartialBatch
from caffecompat.data.loader.crop_form import CropForm
from caffecompat.data.loader.workers import usable_cores
from caffecompat.data.read_options import DEFAULTS, ReadOptions
from caffecompat.data.sources.base import DatabaseSamples, Samples
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError

log = logging.getLogger(__name__)

# The default of data_param.prefetch in the schema of Caffe.
PREFETCH = 4

# The index of no batch.
_UNKNOWN = -1
# Tasks per worker and batch: few for low overhead, several so that workers end at the same time.
_TASKS_PER_WORKER = 4


class BatchReader:
    """The batches of a run by index, which do not depend on the number of workers.

    Threads prefetch the batches after the last requested one, so reading 0, 1, 2, ... is fast. Any
    other index gives the same batch as reading up to it, and prefetching continues from there.

    Not safe for several threads. The reader owns its source. :meth:`close`, the end of a ``with``
    block and garbage collection close both and end all threads.

    Args:
        source: a database, or other samples.
        transform: the transform of each sample.
        batch_size: records per batch, of all ranks together.
        options: seed, workers, handling of corrupt records, and the shard to read.
        prefetch: number of batches that are made in advance.

    Attributes:
        skipped: number of samples so far that replace a corrupt record.

    Raises:
        DataError: the database is empty; batch_size, workers or prefetch is below 1; the batch has
            fewer records than there are ranks.
    """

    def __init__(
        self,
        source: Database | Samples,
        transform: Transform,
        batch_size: int,
        options: ReadOptions = DEFAULTS,
        prefetch: int = PREFETCH,
    ) -> None:
        samples = source if isinstance(source, Samples) else DatabaseSamples(source, transform)
        self._maker = BatchMaker(samples, transform, batch_size, options)
        self.skipped = 0
        self._reported: set[str] = set()
        self._workers = usable_cores() if options.workers is None else options.workers
        self._prefetch = prefetch
        if self._workers < 1 or prefetch < 1:
            raise DataError(
                f"{samples.path}: workers is {self._workers} and prefetch is {prefetch}, "
                "expected 1 or more of each"
            )
        self._stop: Callable[[], object] | None = None
        self._prefetcher: _Prefetcher | None = None
        self._process = 0
        self._next = 0
        self._closed = False

    def defer_arithmetic(self, wanted: bool, form: CropForm | None = None) -> None:
        """Sets whether the blobs of later batches may be deferred crops, and their form.

        See :class:`caffecompat.data.transforms.deferred_crops.DeferredCrops`. Batches that are
        already being made are not affected.
        """
        self._maker.defer_arithmetic = wanted
        if form is not None:
            self._maker.crop_form = form

    @property
    def records(self) -> int:
        """Number of records of the source."""
        return len(self._maker.samples)

    def largest_label(self, most: int, most_bytes: int) -> tuple[int, int] | None:
        """As :meth:`caffecompat.data.sources.base.Samples.largest_label`."""
        return self._maker.samples.largest_label(most, most_bytes)

    def shape(self, index: int = 0) -> tuple[int, int, int, int]:
        """The shape of this rank's shard of batch ``index``; reads one record, starts no thread."""
        return self._maker.shape(index)

    def batch(self, index: int) -> Batch:
        """This rank's shard of batch ``index`` (0, 1, ...); its arrays belong to the caller.

        Raises:
            DataError: a record of this batch cannot be used, or the reader is closed. Errors of
                later batches are raised when those are requested.
        """
        if self._closed:
            raise DataError(f"{self._maker.samples.path}: the reader has been closed")
        if index < 0:
            raise DataError(f"{self._maker.samples.path}: batch {index}, expected 0 or more")
        if self._prefetcher is not None and self._process != os.getpid():
            # Its threads are not here, and both processes would move the same open files.
            raise DataError(
                f"{self._maker.samples.path}: it is being read in process {self._process}, from "
                f"which this one ({os.getpid()}) was forked; make the net or reader in the new "
                "process"
            )
        if self._prefetcher is None or index != self._next:
            self._restart(index)
        assert self._prefetcher is not None
        # After an error or Ctrl-C, also one behind the batch, the next call restarts prefetching.
        self._next = _UNKNOWN
        try:
            batch = self._prefetcher.take()
        except BaseException:
            self._stop_prefetching()
            raise
        self._next = index + 1
        self._count_skipped(batch)
        return batch

    def close(self) -> None:
        """Ends the threads and closes the source; may be called twice."""
        self._closed = True
        self._stop_prefetching()
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
            if sentence not in self._reported:
                self._reported.add(sentence)
                log.warning("skipped: %s", sentence)

    def _restart(self, index: int) -> None:
        self._stop_prefetching()
        ahead = _Prefetcher(self._maker, index, self._workers, self._prefetch)
        # Called at garbage collection and at exit; must not refer to the reader itself.
        self._stop = weakref.finalize(self, ahead.stop)
        self._prefetcher = ahead
        self._process = os.getpid()

    def _stop_prefetching(self) -> None:
        stop, self._stop, self._prefetcher = self._stop, None, None
        if stop is not None:
            stop()


class _PendingBatch:
    """A batch that is being made; each of its tasks puts one outcome into ``outcomes``."""

    def __init__(self) -> None:
        self.batch: PartialBatch | None = None
        self.tasks = 1
        # SimpleQueue is reentrant, unlike locks and events: a reader may be collected as garbage
        # at any point in any of its own threads.
        self.outcomes: SimpleQueue[tuple[int, Exception | None]] = SimpleQueue()

    def wait(self) -> PartialBatch:
        """Waits for all tasks and returns the batch; raises the error of the first failed row."""
        outcomes = [self.outcomes.get() for _ in range(self.tasks)]
        failures = [(row, error) for row, error in outcomes if error is not None]
        if failures:
            raise min(failures, key=lambda failure: failure[0])[1]
        assert self.batch is not None
        return self.batch


class _Prefetcher:
    """Threads that make the batches ``start``, ``start + 1``, ... in advance.

    One thread reads records in order, as in Caffe, and submits rows to the workers. It runs up to
    ``depth`` batches ahead of the consumer.
    """

    def __init__(self, maker: BatchMaker, start: int, workers: int, depth: int) -> None:
        self._maker = maker
        self._stopping = False
        self._shares_cores = workers > 1
        self._rows_per_task = -(-maker.rows // (workers * _TASKS_PER_WORKER))
        self._free_slots: SimpleQueue[None] = SimpleQueue()
        self._ready: SimpleQueue[_PendingBatch] = SimpleQueue()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for _ in range(depth):
            self._free_slots.put(None)
        # Daemon threads, because the interpreter would wait for others before it calls finalizers.
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
        """Waits for the next batch and returns it."""
        pending = self._ready.get()
        self._free_slots.put(None)
        return self._maker.finish(pending.wait())

    def stop(self) -> None:
        """Ends all threads; each worker finishes its record, the reading thread its batch."""
        self._stopping = True
        self._free_slots.put(None)
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _read(self, index: int) -> None:
        while True:
            self._free_slots.get()
            if self._stopping:
                return
            pending = _PendingBatch()
            try:
                batch = self._maker.start(index)
            except Exception as error:
                pending.outcomes.put((0, error))
            else:
                self._limit_threads()
                self._submit_rows(pending, batch)
            self._ready.put(pending)
            index += 1

    def _limit_threads(self) -> None:
        # The first record is decoded now, which has loaded OpenCV if the records are images.
        if self._shares_cores:
            compute_in_calling_threads()

    def _submit_rows(self, pending: _PendingBatch, batch: PartialBatch) -> None:
        starts = range(0, self._maker.rows, self._rows_per_task)
        pending.batch = batch
        pending.tasks = len(starts)
        for start in starts:
            rows = range(start, min(start + self._rows_per_task, self._maker.rows))
            self._tasks.put(_task(self, pending, batch, rows))

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def fill(self, pending: _PendingBatch, batch: PartialBatch, rows: range) -> None:
        """Fills some rows of a batch and puts the outcome into ``pending``."""
        row = rows.start
        try:
            for row in rows:
                if self._stopping:
                    return
                self._maker.fill(batch, row)
            pending.outcomes.put((row, None))
        except Exception as error:
            pending.outcomes.put((row, error))


def _task(
    ahead: _Prefetcher, pending: _PendingBatch, batch: PartialBatch, rows: range
) -> Callable[[], None]:
    return lambda: ahead.fill(pending, batch, rows)
