"""The LevelDB file reader, which changes nothing and needs only read permission.

A LevelDB consists of sorted tables (listed in the MANIFEST) and a write-ahead log of records that
are not in a table yet. LevelDB's own library rewrites both when it opens a database, even for
reading. Source: log_format.md, table_format.md and impl.md of LevelDB's documentation. Checksums
are not verified, which is LevelDB's default, too. Work and memory are bounded by the size of the
files: blocks must not overlap, and claimed sizes are counted before memory is allocated.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

from caffecompat.data.backends.leveldb_encoding import (
    Part,
    file_content,
    read_number,
    read_numbers,
    read_string,
)
from caffecompat.data.backends.leveldb_log import Log, log_records
from caffecompat.data.backends.leveldb_table import Table
from caffecompat.data.backends.random_access import OpenFiles
from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import MEBIBYTE

_MAX_CURRENT, _MAX_MANIFEST = 4096, 64 * MEBIBYTE
_MANIFEST = re.compile(r"MANIFEST-[0-9]{1,20}")
_COMPARATOR = b"leveldb.BytewiseComparator"


def open_parts(folder: str, files: OpenFiles) -> list[Part]:
    """The tables and logs of the current state of a database; tables are opened with ``files``.

    Raises:
        FormatError: the folder is not a LevelDB, or its files are damaged or incomplete.
        FileProblem, MissingExtra: a file cannot be read; a table is compressed by snappy.
    """
    manifest = _manifest_name(folder)
    try:
        tables, first_log, previous_log = _read_manifest(
            log_records(file_content(folder, manifest, _MAX_MANIFEST))
        )
    except (ValueError, IndexError, struct.error) as error:
        raise FormatError(f"{os.path.join(folder, manifest)}: damaged: {error}") from error
    names = set(os.listdir(folder))
    parts: list[Part] = []
    for number in sorted(tables):
        found = [name for end in ("ldb", "sst") if (name := f"{number:06d}.{end}") in names]
        if not found:
            raise FormatError(
                f"{folder}: table {number:06d}.ldb, which {manifest} lists, is missing; copy the "
                "whole folder again"
            )
        parts.append(Table(os.path.join(folder, found[0]), files))
    logs = sorted(name for name in names if name.endswith(".log") and name[:-4].isdigit())
    for name in logs:
        if int(name[:-4]) >= first_log or int(name[:-4]) == previous_log:
            parts.append(Log(os.path.join(folder, name)))
    return parts


def _read_manifest(records: Iterator[bytes]) -> tuple[set[int], int, int]:
    """The numbers of the current tables, of the first current log, and of the log before it."""
    tables: set[int] = set()
    log = previous_log = 0
    for record in records:
        at = 0
        while at < len(record):
            tag, at = read_number(record, at)
            if tag == 1:
                name, at = read_string(record, at)
                if name != _COMPARATOR:
                    raise ValueError(f"keys are ordered by {name!r}, expected {_COMPARATOR!r}")
            elif tag == 2:
                log, at = read_number(record, at)
            elif tag in (3, 4):
                _, at = read_number(record, at)
            elif tag == 5:
                _, at = read_number(record, at)
                _, at = read_string(record, at)
            elif tag == 6:
                _, at = read_number(record, at)
                number, at = read_number(record, at)
                tables.discard(number)
            elif tag == 7:
                (_, number, _), at = read_numbers(record, at, 3)
                tables.add(number)
                _, at = read_string(record, at)
                _, at = read_string(record, at)
            elif tag == 9:
                previous_log, at = read_number(record, at)
            else:
                raise ValueError(f"unknown field {tag}")
    return tables, log, previous_log


def _manifest_name(folder: str) -> str:
    try:
        name = file_content(folder, "CURRENT", _MAX_CURRENT).decode("ascii").rstrip("\n")
    except (FileProblem, UnicodeDecodeError) as error:
        raise FormatError(
            f"{folder}: this is not a LevelDB: its file CURRENT cannot be read; expected a folder "
            "that a LevelDB writer created"
        ) from error
    if not _MANIFEST.fullmatch(name):
        raise FormatError(f"{folder}: this is not a LevelDB: its file CURRENT names {name[:80]!r}")
    return name
