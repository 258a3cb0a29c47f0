"""The samples of ImageSegUniformSizeData layers: database records with a label for each pixel.

A record is a Datum whose field 8, ``labels``, has one integer per pixel, row by row.
Source of the semantics: data_transformer.cpp of HybridNet's Caffe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.sources.label_grids.label_maps import LabelMapSettings, MapSample, MapSteps
from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError


class DenseLabelSamples(Samples):
    """The records of a database, in order; the first follows the last.

    Args:
        database: the database.
        settings: what happens to images and maps.
        force_color, force_gray: how to decode images; else as they are stored.
        seed: the seed of crops and flips.

    Raises:
        DataError: the database has no records.
    """

    def __init__(
        self,
        database: Database,
        settings: LabelMapSettings,
        force_color: bool = False,
        force_gray: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(database.path)
        self._database = database
        self._steps = MapSteps(settings, seed)
        self._force = (force_color, force_gray)
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")

    def __len__(self) -> int:
        return len(self._database)

    def fetch(self, ordinal: int) -> RawSample:
        position = ordinal % len(self._database)
        return RawSample(ordinal, position, *self._database.read(position))

    def decode(self, raw: RawSample) -> MapSample:
        record = parse_datum(raw.value, "DenseLabelDatum")
        if not record.encoded:
            raise DataError("its image is not encoded, which ImageSegUniformSizeData needs")
        pixels = decode_datum(record, *self._force)
        height, width = pixels.shape[1:]
        labels = np.array(record.labels, np.int64)
        if labels.size < height * width:
            raise DataError(
                f"it has {labels.size} labels for an image of {height}x{width} (height x width); "
                "it needs one for each pixel"
            )
        labels = labels[: height * width].reshape(height, width)
        values, finished = self._steps.finished(pixels, labels, raw.ordinal)
        return MapSample(values, 0, finished, finished.shape)

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        return (first.shape[1] * first.shape[2] + 2,)

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, MapSample)
        return sample.label_row()

    def close(self) -> None:
        self._database.close()
