"""The samples of DocData layers: pictures of documents, with the labels that a record has.

A record is a DocumentDatum: an image, and numbers that describe the document.
Source of the semantics: doc_data_layer.cpp and the transformers of ctensmeyer's Caffe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import decode_image
from caffecompat.data.counter_rng import draw, normal, pick, pick_one
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError
from caffecompat.proto import schema

Floats = NDArray[np.float32]
# Names of labels that differ from those of their fields.
_FIELDS = {
    "is_graphical": "is_graphical_document",
    "is_historical": "is_historical_document",
    "is_textual": "is_textual_document",
}
_BLOCK = 4096


def label_fields() -> set[str]:
    """The names of labels that a record may have."""
    names = {field.name for field in schema.new("DocumentDatum").DESCRIPTOR.fields} - {"image"}
    return names - set(_FIELDS.values()) | set(_FIELDS)


@dataclass(frozen=True)
class Linear:
    """scale * (value - shift); one value for all channels, or one for each."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def apply(self, values: Floats, ordinal: int, seed: int, purpose: str) -> Floats:
        channels = len(values)
        for name, given in (("shift", self.shift), ("scale", self.scale)):
            if len(given) not in (1, channels):
                raise DataError(
                    f"it has {channels} channels, but linear_params has {len(given)} {name}; give "
                    "one, or one per channel"
                )
        shift, scale = (
            np.array(given, np.float32).reshape(-1, 1, 1) for given in (self.shift, self.scale)
        )
        return scale * (values - shift)


@dataclass(frozen=True)
class ColourJitter:
    """A number of the normal distribution, added to each channel."""

    mean: float
    sigma: float

    def apply(self, values: Floats, ordinal: int, seed: int, purpose: str) -> Floats:
        numbers = ordinal * len(values) + np.arange(len(values))
        drawn = self.mean + self.sigma * normal(seed, numbers, purpose)
        return values + drawn.astype(np.float32).reshape(-1, 1, 1)


@dataclass(frozen=True)
class DocumentSettings:
    """How records become samples.

    Attributes:
        steps: what happens to an image, in order.
        labels: the names of the labels.
        missing: the value of a label that a record does not have.
        force_color: images are decoded to three channels.
        most_skipped: how many records are left out after each one, at most.
        first_skipped: fewer records than this are left out at the start.
        order: names the random order of records; layers with equal names read equal records.
        place: names the random numbers of the steps.
    """

    steps: Sequence[Linear | ColourJitter] = ()
    labels: tuple[str, ...] = ()
    missing: float = -1.0
    force_color: bool = False
    most_skipped: int = 0
    first_skipped: int = 0
    order: str = ""
    place: str = ""


@dataclass(frozen=True)
class DocumentSample(Sample):
    """A finished image with its labels."""

    labels: Floats


class DocumentSamples(Samples):
    """The records of a database, of which some may be left out at random.

    Args:
        database: the database.
        settings: how records become samples.
        seed: random choices are a function of it and of the sample's number.

    Raises:
        DataError: the database has no records.
    """

    def __init__(self, database: Database, settings: DocumentSettings, seed: int) -> None:
        super().__init__(database.path)
        self._database, self._settings, self._seed = database, settings, seed
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")
        self._first = 0
        if settings.first_skipped:
            purpose = f"first document {settings.order}"
            self._first = pick_one(seed, 0, purpose, settings.first_skipped)
        self._begins = [0]
        self._inside = lru_cache(maxsize=4)(self._places_inside)

    def __len__(self) -> int:
        return len(self._database)

    def position_of(self, ordinal: int) -> int:
        """Which record is sample number ``ordinal`` of the run."""
        if not self._settings.most_skipped:
            return (self._first + ordinal) % len(self._database)
        block, place = divmod(ordinal, _BLOCK)
        while len(self._begins) <= block:
            self._begins.append(self._begins[-1] + int(self._inside(len(self._begins) - 1)[-1]))
        before = 0 if place == 0 else int(self._inside(block)[place - 1])
        return (self._first + self._begins[block] + before) % len(self._database)

    def _places_inside(self, block: int) -> NDArray[np.int64]:
        """How far each sample of a block leads from the block's begin."""
        numbers = block * _BLOCK + np.arange(_BLOCK)
        drawn = draw(self._seed, numbers, f"documents left out {self._settings.order}")
        return np.cumsum(1 + pick(drawn, self._settings.most_skipped + 1).astype(np.int64))

    def fetch(self, ordinal: int) -> RawSample:
        position = self.position_of(ordinal)
        return RawSample(ordinal, position, *self._database.read(position))

    def decode(self, raw: RawSample) -> DocumentSample:
        record = schema.new("DocumentDatum")
        try:
            record.ParseFromString(raw.value)
        except DecodeError:
            raise DataError("it is not a DocumentDatum; is this a database for Data?") from None
        values = _pixels(record.image, self._settings.force_color).astype(np.float32)
        for number, step in enumerate(self._settings.steps):
            purpose = f"colour jitter {number} {self._settings.place}"
            values = step.apply(values, raw.ordinal, self._seed, purpose)
        return DocumentSample(np.ascontiguousarray(values), 0, self._labels(record))

    def _labels(self, record: Any) -> Floats:
        found = [self._settings.missing] * max(len(self._settings.labels), 1)
        for i, name in enumerate(self._settings.labels):
            field = _FIELDS.get(name, name)
            if record.HasField(field):
                found[i] = float(getattr(record, field))
        return np.array(found, np.float32)

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        return (max(len(self._settings.labels), 1),)

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, DocumentSample)
        return sample.labels

    def close(self) -> None:
        self._database.close()


def _pixels(image: Any, force_color: bool) -> NDArray[Any]:
    """The pixels (C, H, W) of an image of a record."""
    if image.encoding != "none":
        in_colour = force_color or image.channels == 3
        pixels = decode_image(image.data, "color" if in_colour else "gray") if image.data else None
        if pixels is None:
            raise DataError(f"its image ({image.encoding}) cannot be decoded")
        return planes(pixels)
    shape = (image.channels, image.height, image.width)
    if min(shape) < 1 or len(image.data) != shape[0] * shape[1] * shape[2]:
        raise DataError(
            f"its image is {shape[0]}x{shape[1]}x{shape[2]} (channels x height x width), but has "
            f"{len(image.data)} bytes"
        )
    return np.frombuffer(image.data, np.uint8).reshape(shape)
