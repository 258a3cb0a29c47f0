"""Telling whose data it was: errors of the data room get the layer's place in front."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.errors import DataError, FileProblem, FormatError


@contextmanager
def errors_at(place: str) -> Iterator[None]:
    """Puts ``place`` in front of the message of an error about files or records."""
    try:
        yield
    except (FileProblem, FormatError, DataError) as error:
        raise type(error)(f"{place}: {error}") from error
