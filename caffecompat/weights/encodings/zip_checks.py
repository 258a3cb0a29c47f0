"""Checks of zip archives, and one exception type for errors of other libraries' readers."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from caffecompat.errors import CaffeError, FormatError, first_line
from caffecompat.input_files import ClaimedBytes, open_input

# The largest compression ratio of deflate; a larger claimed size is false.
MAX_DEFLATED = 1032

# The record at the end of a zip archive, which a comment may follow; its signature; and the fixed
# part of the header of each member.
END_MARK = b"PK\x05\x06"
END_RECORD = struct.Struct("<12xII2x")
MAX_TAIL_BYTES = END_RECORD.size + 0xFFFF
LOCAL_HEADER = 30
ZIP64 = 0xFFFFFFFF
# 50,000 entries or more; each takes memory and time.
MAX_DIRECTORY_BYTES = 8 << 20


@contextmanager
def library_errors(path: Path, kind: str) -> Iterator[None]:
    """Context that turns any exception of another library's reader into a FormatError.

    numpy, h5py and torch raise undocumented exceptions of nearly every type for damaged files.

    Args:
        path: the file, for the message.
        kind: its type ("an HDF5 file").
    """
    try:
        yield
    except CaffeError:
        raise
    except Exception as error:
        raise FormatError(
            f"{path}: this is {kind} that is damaged or cut off: {first_line(error)}"
        ) from error


def zip_names(path: Path) -> list[str] | None:
    """The names in a zip archive, or None if its directory is damaged, missing or too large."""
    try:
        with open_input(path) as file, _directory(path, file) as archive:
            return archive.namelist()
    except FormatError:
        return None


@contextmanager
def zip_archive(
    path: Path, file: BinaryIO, max_bytes: int | None = None
) -> Iterator[zipfile.ZipFile]:
    """Context with a zip archive whose directory has been checked against the file's size.

    Args:
        path: the file's name, for messages.
        file: the open file.
        max_bytes: the limit for the total size of the members; None for four times the file's size
            plus 64 MiB.

    Raises:
        FormatError: it is damaged; entries share bytes of the file or claim more than the limit
            in total; or it has too many entries.
    """
    size = os.fstat(file.fileno()).st_size
    with _directory(path, file) as archive:
        _check_entries(path, archive.infolist(), ClaimedBytes(path, size, max_bytes))
        yield archive


def _directory(path: Path, file: BinaryIO) -> zipfile.ZipFile:
    """Opens an archive, which reads its directory, after checking the directory's length."""
    with library_errors(path, "a zip archive"):
        length = _directory_bytes(file, os.fstat(file.fileno()).st_size)
        if length > MAX_DIRECTORY_BYTES:
            raise FormatError(
                f"{path}: the directory of this zip archive has {length:,} bytes, more than "
                f"the limit of {MAX_DIRECTORY_BYTES:,}"
            )
        return zipfile.ZipFile(file)


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """The length that the directory of a zip archive claims; 0 if there is no directory."""
    tail = max(0, size - MAX_TAIL_BYTES)
    file.seek(tail)
    end = file.read()
    file.seek(0)
    at = end.rfind(END_MARK)
    if at < 0 or len(end) < at + END_RECORD.size:
        return 0
    length = int(END_RECORD.unpack_from(end, at)[0])
    # Archives above 4 GB store the length elsewhere; their directory follows the members.
    return length if length != ZIP64 else min(size, MAX_TAIL_BYTES)


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
        # A lower bound, since the local header may be longer.
        end = entry.header_offset + LOCAL_HEADER + entry.compress_size
    claimed.add(sum(entry.file_size for entry in entries), "its unpacked content")
