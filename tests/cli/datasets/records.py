"""Databases for the tests of the verb dataset, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from caffecompat.data.backends.database import create_database, open_database
from caffecompat.data.codec.datum import parse_datum

Run = Callable[..., tuple[int, str, str]]


def records(path: Path | str, backend: str = "LMDB") -> list[tuple[bytes, bytes]]:
    with open_database(path, backend) as database:
        return [database.read(index) for index in range(len(database))]


def labels(path: Path | str) -> list[int]:
    return [parse_datum(value).label for _, value in records(path)]


def write(path: Path, pairs: list[tuple[str, bytes]]) -> Path:
    with create_database(path) as writer:
        writer.write((key.encode(), value) for key, value in pairs)
    return path


def picture(number: int, shape: tuple[int, ...] = (7, 9, 3)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)
