"""Computation of any batch of a run from its index: samples, shape, augmentations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.loader.buffer_pool import BufferPool
from caffecompat.data.loader.crop_form import CropForm
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.transforms.deferred_crops import DeferredCrops
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError

Floats = NDArray[np.float32]

# After this many corrupt records in a row the whole data set is considered corrupt.
_MAX_CONSECUTIVE_CORRUPT = 1000


@dataclass(frozen=True)
class Batch:
    """N transformed samples: the rows of one rank.

    Attributes:
        blob: N x channels x height x width, float32 or deferred.
        labels: N x the shape of a label, float32; for AnnotatedData N arrays.
        skipped: row and error message of each corrupt record that was skipped for that row.
    """

    blob: Floats | DeferredCrops
    labels: Floats
    skipped: tuple[tuple[int, str], ...] = ()

    @property
    def data(self) -> Floats:
        """The blob in float32."""
        return self.blob.floats() if isinstance(self.blob, DeferredCrops) else self.blob


@dataclass(frozen=True)
class PartialBatch:
    """A batch whose samples are read, and whose rows are filled by several threads.

    Attributes:
        data: the rows, float32, or uint8 if the arithmetic is deferred.
        labels: N x the shape of a label, float32.
        first: the first sample, which was decoded to find the batch's shape.
        samples: the samples as read, one per row.
        augmentations: one per row.
        skips: (row, error message) of each skipped corrupt record.
        floats: (row, sample) of each sample that is not uint8 although ``data`` is.
    """

    data: NDArray[Any]
    labels: Floats
    first: Sample
    samples: list[RawSample]
    augmentations: list[Augmentation]
    skips: list[tuple[int, str]] = field(default_factory=list)
    floats: list[tuple[int, Sample]] = field(default_factory=list)


class BatchMaker:
    """Makes any batch of a run from its index.

    Row ``row`` of batch ``index`` is sample ``s = index * batch_size + row`` of ``samples``, so a
    batch may continue at the start of a database after its end. The first sample of a batch
    decides its shape. Random choices depend only on ``(seed, s)``.

    With several ranks each maker gives its shard of every batch. The first sample of the shard
    decides its shape. ``batch_size`` is the size of the global batch, ``rows`` that of the shard.

    With ``skip_corrupt`` a sample that cannot be read or decoded is replaced by the next good
    record. The replacement depends only on the data.

    Attributes:
        defer_arithmetic: give :class:`DeferredCrops` from the next batch on, if possible.
        crop_form: how the pixels of deferred crops lie in memory.

    Raises:
        DataError: the batch size is not positive, or smaller than the number of ranks.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform,
        batch_size: int,
        options: ReadOptions,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"{samples.path}: batch_size is {batch_size}, expected 1 or more")
        self.samples = samples
        self.transform = transform
        self.batch_size = batch_size
        self._shard = options.shard.rows(batch_size, samples.path)
        self.rows = len(self._shard)
        self.options = options
        self.defer_arithmetic = False
        self._buffers = BufferPool()
        self._crop_form, self._crop_buffers = CropForm(), BufferPool()

    @property
    def crop_form(self) -> CropForm:
        return self._crop_form

    @crop_form.setter
    def crop_form(self, form: CropForm) -> None:
        if form != self._crop_form:
            self._crop_form, self._crop_buffers = form, BufferPool(form.allocate)

    def shape(self, index: int) -> tuple[int, int, int, int]:
        """The shape of this rank's shard of batch ``index``; reads one record.

        Raises:
            DataError: the record cannot be used; the message has path, key and position.
        """
        skips: list[tuple[int, str]] = []
        ordinals = self._ordinals(index)[:1]
        first = self._fetch(int(ordinals[0]), 0, skips)
        (augmentation,) = self.transform.draw_augmentations(self.options.seed, ordinals)
        return self._shape(first, self._decode(first, 0, skips), augmentation)

    def start(self, index: int) -> PartialBatch:
        """Reads the records of batch ``index`` and allocates its memory.

        Raises:
            DataError: a record cannot be read, or the first one cannot be used.
        """
        skips: list[tuple[int, str]] = []
        ordinals = self._ordinals(index)
        samples = [self._fetch(int(s), row, skips) for row, s in enumerate(ordinals)]
        augmentations = self.transform.draw_augmentations(self.options.seed, ordinals)
        first = self._decode(samples[0], 0, skips)
        deferred = (
            self.defer_arithmetic
            and self.transform.can_defer_arithmetic
            and first.pixels.dtype == np.uint8
        )
        shape = self._shape(samples[0], first, augmentations[0])
        data = self._crops(shape) if deferred else self._buffers.array(shape)
        labels: NDArray[Any] = np.empty(
            (self.rows, *self.samples.label_shape_of(first)), self.samples.label_type
        )
        return PartialBatch(data, labels, first, samples, augmentations, skips)

    def _crops(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        rows, channels, height, width = shape
        # The reading thread runs this; another thread may replace the pool meanwhile.
        form, buffers = self._crop_form, self._crop_buffers
        if not form.channels_last:
            return buffers.array(shape, np.uint8)
        return buffers.array((rows, height, width, channels), np.uint8).transpose(0, 3, 1, 2)

    def fill(self, batch: PartialBatch, row: int) -> None:
        """Decodes and transforms row ``row`` of a batch.

        Raises:
            DataError: the record cannot be used; the message has path, key and position.
        """
        raw = batch.samples[row]
        sample = batch.first if row == 0 else self._decode(raw, row, batch.skips)
        if batch.data.dtype == np.uint8 and sample.pixels.dtype != np.uint8:
            batch.floats.append((row, sample))
        else:
            # It refuses a sample of another size, before a label of that size is stored.
            self._apply(batch, row, sample, batch.data)
        try:
            batch.labels[row] = self.samples.label(sample, batch.augmentations[row])
        except DataError as error:
            raise self._located(error, raw) from error

    def finish(self, batch: PartialBatch) -> Batch:
        """The finished batch, after all rows have been filled.

        Raises:
            DataError: a sample has another shape than the first one.
        """
        blob: Floats | DeferredCrops = batch.data
        if batch.data.dtype == np.uint8:
            blob = self.transform.crops(batch.data, batch.augmentations)
        if isinstance(blob, DeferredCrops) and batch.floats:
            blob = blob.floats()
            for row, sample in sorted(batch.floats, key=lambda entry: entry[0]):
                self._apply(batch, row, sample, blob)
        return Batch(blob, batch.labels, tuple(sorted(batch.skips)))

    def _apply(self, batch: PartialBatch, row: int, sample: Sample, data: NDArray[Any]) -> None:
        try:
            self.transform.apply(sample.pixels, batch.augmentations[row], data[row])
        except DataError as error:
            raise self._located(error, batch.samples[row]) from error

    def _ordinals(self, index: int) -> NDArray[np.int64]:
        return index * self.batch_size + np.arange(self._shard.start, self._shard.stop)

    def _fetch(self, ordinal: int, row: int, skips: list[tuple[int, str]]) -> RawSample:
        for step in range(_MAX_CONSECUTIVE_CORRUPT):
            try:
                return self.samples.fetch(ordinal + step)
            except DataError as error:
                if not self.options.skip_corrupt:
                    raise
                skips.append((row, str(error)))
        raise self._too_many_corrupt()

    def _decode(self, raw: RawSample, row: int, skips: list[tuple[int, str]]) -> Sample:
        for _ in range(_MAX_CONSECUTIVE_CORRUPT):
            try:
                return self.samples.decode(raw)
            except DataError as error:
                located = self._located(error, raw)
                if not self.options.skip_corrupt:
                    raise located from error
                skips.append((row, str(located)))
            raw = self._fetch(raw.ordinal + 1, row, skips)
        raise self._too_many_corrupt()

    def _shape(
        self, raw: RawSample, sample: Sample, augmentation: Augmentation
    ) -> tuple[int, int, int, int]:
        try:
            shape = self.transform.output_shape(sample.shape, augmentation)
        except DataError as error:
            raise self._located(error, raw) from error
        return (self.rows, *shape)

    def _located(self, error: DataError, raw: RawSample) -> DataError:
        return DataError(f"{self.samples.locate(raw)}: {error}")

    def _too_many_corrupt(self) -> DataError:
        return DataError(
            f"{self.samples.path}: {_MAX_CONSECUTIVE_CORRUPT} records in a row cannot be used; "
            "to list them, run: caffecompat dataset verify"
        )
