"""Estimation of a database's size before it is written."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import TypeVar

from caffecompat.reporting.units import format_bytes

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_SAMPLES = 20
_PAGE_BYTES = 4096
# LMDB stores larger values on separate pages.
_MAX_INLINE_BYTES = 2000
_BYTES_PER_RECORD = 48
# Raw pixels are warned of from this database size on, and from this ratio to the image files on.
_MIN_WARNED_BYTES = 1_000_000_000
_MIN_WARNED_RATIO = 3


def log_expected_size(
    target: str,
    items: Sequence[Item],
    stored_size: Callable[[Item], int | None],
    file_size: Callable[[Item], int | None] | None = None,
) -> None:
    """Logs the estimated size of a database; warns if the disk has too little free space.

    Args:
        target: path of the database.
        items: the items from which records will be made; some of them are measured.
        stored_size: gives the bytes of an item's record; None if it will have none.
        file_size: gives the bytes of an item's image file, for records of raw pixels; a warning
            is logged if the database is far larger than the files.
    """
    chosen = [items[n * len(items) // _SAMPLES] for n in range(_SAMPLES)] if items else []
    chosen = list(dict.fromkeys(chosen))
    sizes = [size for item in chosen if (size := stored_size(item)) is not None]
    if not sizes:
        return
    records = round(len(items) * len(sizes) / len(chosen))
    total = round(records * sum(map(_on_disk, sizes)) / len(sizes))
    log.info(
        "Expected size: about %s (%s records of %s, measured on %d)",
        format_bytes(total),
        f"{records:,}",
        format_bytes(sum(sizes) / len(sizes)),
        len(sizes),
    )
    files = [size for item in chosen if file_size and (size := file_size(item)) is not None]
    if files and total > _MIN_WARNED_BYTES:
        images = len(items) * sum(files) / len(files)
        if total > _MIN_WARNED_RATIO * images:
            log.warning(
                "raw pixels take %.0f times as much as the image files, about %s; --encoded stores "
                "the images as they are",
                total / images,
                format_bytes(images),
            )
    free = shutil.disk_usage(_existing(target)).free
    if free < total:
        log.warning(
            "%s: the disk has %s free, which will not be enough", target, format_bytes(free)
        )


def _on_disk(size: int) -> int:
    if size > _MAX_INLINE_BYTES:
        return _BYTES_PER_RECORD + -(-(size + 16) // _PAGE_BYTES) * _PAGE_BYTES
    return _BYTES_PER_RECORD + size


def _existing(path: str) -> str:
    """The path, or the deepest folder above it that exists."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
