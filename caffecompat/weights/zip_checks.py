"""Damaged files in the hands of other libraries."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from caffecompat.errors import CaffeError, FormatError
from caffecompat.input_files import ClaimedBytes, open_input

# Deflate cannot pack tighter than this, so a larger claim is a lie about the size.
MOST_DEFLATED = 1032

# Of a zip archive: the record at its end, behind which a comment may stand, its mark, and the
# fixed part of what stands before each member.
END_MARK = b"PK\x05\x06"
END_RECORD = struct.Struct("<12xII2x")
LONGEST_TAIL = END_RECORD.size + 0xFFFF
LOCAL_HEADER = 30
ZIP64 = 0xFFFFFFFF
# Some 50,000 entries and more; listing takes memory and time for each.
MOST_DIRECTORY_BYTES = 8 << 20


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
    """The names in a zip archive, or None where its directory is damaged, missing or absurd."""
    try:
        with open_input(path) as file, _directory(path, file) as archive:
            return archive.namelist()
    except FormatError:
        return None


@contextmanager
def zip_archive(
    path: Path, file: BinaryIO, max_bytes: int | None = None
) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose directory has been held against the file before a member is read.

    Args:
        path: the file's name, for messages.
        file: the file itself.
        max_bytes: the most that the members may hold together; None for four times the file's
            size plus 64 MiB.

    Raises:
        FormatError: it is damaged; several entries of the directory share bytes of the file, or
            all together claim more than the limit; it has too many entries.
    """
    size = os.fstat(file.fileno()).st_size
    with _directory(path, file) as archive:
        _check_entries(path, archive.infolist(), ClaimedBytes(path, size, max_bytes))
        yield archive


def _directory(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    """An archive of which only the directory has been read, after a look at its length."""
    with reading(path, "a zip archive"):
        length = _directory_bytes(file, os.fstat(file.fileno()).st_size)
        if length > MOST_DIRECTORY_BYTES:
            raise FormatError(
                f"{path}: the directory of this zip archive has {length:,} bytes, more than "
                f"the limit of {MOST_DIRECTORY_BYTES:,}"
            )
        return zipfile.ZipFile(file)


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """What the directory at the end of a zip archive claims to be long; 0 where there is none."""
    tail = max(0, size - LONGEST_TAIL)
    file.seek(tail)
    end = file.read()
    file.seek(0)
    at = end.rfind(END_MARK)
    if at < 0 or len(end) < at + END_RECORD.size:
        return 0
    length = int(END_RECORD.unpack_from(end, at)[0])
    # Of archives beyond 4 GB the number stands elsewhere; their directory is behind the members.
    return length if length != ZIP64 else min(size, LONGEST_TAIL)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], claimed: ClaimedBytes) -> None:
    if len({entry.filename for entry in entries}) < len(entries):
        raise FormatError(f"{path}: several entries of this archive have one name; it is damaged")
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise FormatError(
                f"{path}: entry {entry.filename!r} of this archive shares bytes of the file with "
                "another one; no program writes such archives"
            )
        # At least: the local header may be longer.
        end = entry.header_offset + LOCAL_HEADER + entry.compress_size
        claimed.add(entry.file_size, "what is packed in it")
