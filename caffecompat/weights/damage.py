"""Damaged files in the hands of other libraries."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caffecompat.errors import CaffeError, FormatError

# Deflate cannot pack tighter than this, so a larger claim is a lie about the size.
MOST_DEFLATED = 1032


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever another library raises over a file into one FormatError.

    numpy, h5py and torch answer damaged bytes with nearly every exception there is; none of them
    is documented, so none can be left out.

    Args:
        path: the file, for the message.
        kind: what it is ("an HDF5 file").
    """
    try:
        yield
    except CaffeError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise FormatError(f"{path}: this is {kind} that is damaged or cut off: {reason}") from error


def zip_names(path: Path) -> list[str] | None:
    """The names in a zip archive, or None where its directory is damaged or missing."""
    try:
        with reading(path, "a zip archive"), zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except FormatError:
        return None
