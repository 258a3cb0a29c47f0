"""Databases whose writing is broken off."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from caffecompat.data.backends.database import open_database, resume_database

RECORDS = [(b"1", b"one"), (b"2", b"two")]


class Break(Exception):
    pass


def begin(target: Path, records: list[tuple[bytes, bytes]]) -> None:
    """A run that writes some records and is interrupted."""
    with suppress(Break), resume_database(target, "LMDB", "purpose", False) as writer:
        writer.write(records)
        raise Break


def keys(path: Path) -> list[bytes]:
    with open_database(path) as database:
        return list(database.keys())
