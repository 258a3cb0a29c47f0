"""Databases that tests make for themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.loader.batch import Batch
from caffecompat.data.loader.prefetch import BatchReader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.transforms.transform import Transform
from caffecompat.proto import schema

NAMES = ("workers", "skip_corrupt", "shard")


def datum(pixels: np.ndarray, label: int = 0) -> bytes:
    """A raw record of channels x height x width uint8."""
    message = schema.new("Datum")
    message.channels, message.height, message.width = pixels.shape
    message.data = pixels.astype(np.uint8).tobytes()
    message.label = label
    message.encoded = False
    return bytes(message.SerializeToString())


def encoded_datum(data: bytes, label: int = 0) -> bytes:
    message = schema.new("Datum")
    message.data = data
    message.label = label
    message.encoded = True
    return bytes(message.SerializeToString())


def write_records(path: Path, values: Iterable[bytes]) -> str:
    """A database of these values, with keys in their order."""
    with create_database(path) as writer:
        writer.write((b"%08d_r" % number, value) for number, value in enumerate(values))
    return str(path)


def numbered(path: Path, count: int, shape: tuple[int, int, int] = (3, 7, 9)) -> str:
    """A database of records whose every pixel tells where it is; labels count up from 0."""
    size = int(np.prod(shape))
    assert size <= 251
    records = [(np.arange(size).reshape(shape) + 5 * number) % 251 for number in range(count)]
    return write_records(path, [datum(pixels, label) for label, pixels in enumerate(records)])


def reader(
    path: str, phase: str = "TRAIN", batch_size: int = 4, seed: int = 1, **options: Any
) -> BatchReader:
    """A reader; options that BatchReader does not have are fields of transform_param."""
    settings = {name: options.pop(name) for name in NAMES if name in options}
    prefetch = {name: options.pop(name) for name in ("prefetch",) if name in options}
    message = schema.new("TransformationParameter")
    for name, value in options.items():
        if isinstance(value, list):
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return BatchReader(
        open_database(path),
        Transform(message, phase),
        batch_size,
        ReadOptions(**{"seed": seed, "workers": 2, **settings}),
        **prefetch,
    )


def batches(path: str, indices: Iterable[int], **options: Any) -> list[Batch]:
    with reader(path, **options) as opened:
        return [opened.batch(index) for index in indices]
