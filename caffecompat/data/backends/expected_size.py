"""How large a database is going to be, said before it is written."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_SAMPLES = 20
_PAGE = 4096
# Larger values of an LMDB stand on pages of their own.
_LARGEST_AMONG_OTHERS = 2000
_OVERHEAD = 48
# When to speak of raw pixels: the database takes this much, and this many times the images' size.
_MUCH = 1_000_000_000
_TIMES = 3


def tell_expected_size(
    target: str,
    items: Sequence[Item],
    stored_size: Callable[[Item], int | None],
    file_size: Callable[[Item], int | None] | None = None,
) -> None:
    """Logs the size of a database, estimated from some of its records; warns of a full disk.

    Args:
        target: where the database will be.
        items: what its records are made of.
        stored_size: bytes of an item's record, None if there will be none.
        file_size: bytes of an item's image file where records hold raw pixels; a database that is
            far larger than the files is warned of.
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
    if files and total > _MUCH:
        images = len(items) * sum(files) / len(files)
        if total > _TIMES * images:
            log.warning(
                "raw pixels take %.0f times as much as the image files, about %s; --encoded stores "
                "the images as they are",
                *(total / images, format_bytes(images)),
            )
    free = shutil.disk_usage(_existing(target)).free
    if free < total:
        log.warning(
            "%s: the disk has %s free, which will not be enough", target, format_bytes(free)
        )


def format_bytes(count: float) -> str:
    """``1.5 MB`` and the like, in units of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _on_disk(size: int) -> int:
    if size > _LARGEST_AMONG_OTHERS:
        return _OVERHEAD + -(-(size + 16) // _PAGE) * _PAGE
    return _OVERHEAD + size


def _existing(path: str) -> str:
    """The path, or the deepest folder above it that exists."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder
