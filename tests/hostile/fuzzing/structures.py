"""Damage that knows a format: pages of an LMDB, chunks of a PNG, odd objects of an HDF5 file."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tests.hostile.fuzzing.mutations import (
    BINARY_MOVES,
    IN_PLACE_MOVES,
    TEXT_MOVES,
    WIDE,
    Move,
    mutate,
    number_in_place,
)

_PAGE = 4096
# Where the numbers of a page's header and of the two meta pages lie, each with its width.
_PAGE_FIELDS = ((0, 8), (8, 2), (10, 2), (12, 2), (14, 2), (12, 4))
_META_FIELDS = (
    *((16, 4), (20, 4), (24, 8), (32, 8)),
    *((offset, width) for tree in (40, 88) for offset, width in ((0, 4), (4, 2), (6, 2))),
    *((offset + tree, 8) for tree in (40, 88) for offset in (8, 16, 24, 32, 40)),
    *((136, 8), (144, 8)),
)

Files = dict[str, bytes]


def _put(data: bytearray, at: int, width: int, chance: random.Random) -> None:
    """An extreme number, or one near the old, at a known place."""
    old = int.from_bytes(data[at : at + width], "little")
    near = old + chance.choice((-2, -1, 1, 2, 16, 4096))
    number = near if chance.random() < 0.5 else chance.choice(WIDE)
    data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")


def lmdb_move(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A field of a meta page or a page header, a node's place, a whole page copied or swapped."""
    pages = len(data) // _PAGE
    if not pages:
        return
    start = chance.randrange(pages) * _PAGE
    act = chance.randrange(6)
    if act == 0:
        offset, width = chance.choice(_META_FIELDS)
        _put(data, chance.randrange(min(2, pages)) * _PAGE + offset, width, chance)
    elif act == 1:
        offset, width = chance.choice(_PAGE_FIELDS)
        _put(data, start + offset, width, chance)
    elif act == 2:
        _put(data, start + 16 + 2 * chance.randrange(20), 2, chance)
    elif act == 3:
        lower = int.from_bytes(data[start + 16 : start + 18], "little") % _PAGE
        _put(data, start + lower + chance.choice((0, 2, 4, 6)), 2, chance)
    elif act == 4:
        target = chance.randrange(pages) * _PAGE
        data[target : target + _PAGE] = data[start : start + _PAGE]
    else:
        del data[start + chance.choice((0, 1, 2048)) :]


LMDB_MOVES: tuple[Move, ...] = (*(lmdb_move,) * 6, *IN_PLACE_MOVES)


def damaged_folder(
    files: Files, moves: Sequence[Move], chance: random.Random, others: Sequence[bytes]
) -> Files:
    """A folder with one of its files damaged or gone, mostly the largest."""
    changed = dict(files)
    names = sorted(files, key=lambda name: len(files[name]))
    name = names[-1] if chance.random() < 0.6 else chance.choice(names)
    if len(names) > 1 and chance.random() < 0.02:
        del changed[name]
        return changed
    text = files[name].isascii() and len(files[name]) < 200 and b"\n" in files[name]
    changed[name] = mutate(files[name], TEXT_MOVES if text else moves, chance, others)
    return changed


def _png_chunk(data: bytearray, chance: random.Random) -> None:
    """A chunk's content changed under a right checksum, so that decoders take it seriously."""
    at, places = 8, []
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size > len(data) - at - 12:
            break
        places.append((at, size))
        at += 12 + size
    if not places:
        return
    at, size = places[0] if chance.random() < 0.5 else chance.choice(places)
    content = bytearray(data[at + 8 : at + 8 + size])
    if size >= 8 and chance.random() < 0.5:
        struct.pack_into(">I", content, 4 * chance.randrange(2), chance.choice(WIDE[:-6]))
    elif content:
        content[chance.randrange(len(content))] = chance.randrange(256)
    body = bytes(data[at + 4 : at + 8]) + bytes(content)
    data[at + 4 : at + 12 + size] = body + struct.pack(">I", zlib.crc32(body))


def _jpeg_segment(data: bytearray, chance: random.Random) -> None:
    """A byte or a size in a header segment."""
    at, places = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        places.append((at, size))
        at += 2 + size
    if not places:
        return
    frames = [place for place in places if 0xC0 <= data[place[0] + 1] <= 0xC2]
    at, size = chance.choice(frames or places) if chance.random() < 0.6 else chance.choice(places)
    is_frame = (at, size) in frames and at + 9 <= len(data)
    if is_frame and chance.random() < 0.6:
        struct.pack_into(">H", data, at + 5 + 2 * chance.randrange(2), chance.choice(WIDE[:9]))
    else:
        data[min(at + 1 + chance.randrange(size + 1), len(data) - 1)] = chance.randrange(256)


def image_move(data: bytearray, chance: random.Random, others: Sequence[bytes]) -> None:
    """A field of the header."""
    if data.startswith(b"\x89PNG"):
        _png_chunk(data, chance)
    elif data.startswith(b"\xff\xd8"):
        _jpeg_segment(data, chance)
    else:
        head = bytearray(data[:64])
        number_in_place(head, chance, others)
        data[: len(head)] = head


IMAGE_MOVES: tuple[Move, ...] = (*(image_move,) * 8, *BINARY_MOVES)


# HDF5

_TYPES = ("<f4", ">f4", "<f8", "<f2", "<i4", "i1", "u1", "?", "S5", "O", "V4", "<c8")
_SHAPES = ((), (0,), (1,), (3,), (2, 3), (1, 1, 2, 3), (4, 1), (6,))
_HUGE = ((1 << 38,), (1 << 20, 1 << 20), (4, 1 << 36), (1 << 62,))


def odd_hdf5(names: Sequence[str], chance: random.Random) -> bytes:
    """An HDF5 file with these groups and data sets, some of an odd kind.

    Args:
        names: paths of data sets.
        chance: what decides.
    """
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for name in names:
            make = _odd_object if chance.random() < 0.4 else _plain
            try:
                make(file, name, names, chance)
            except (ValueError, TypeError, RuntimeError, OSError, KeyError):
                continue  # HDF5 itself refuses this combination
    return out.getvalue()


def _plain(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    if name not in file:
        file[name] = np.arange(6, dtype=np.float32).reshape(2, 3)


def _typed(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    import h5py

    kind, shape = chance.choice(_TYPES), chance.choice(_SHAPES)
    if kind == "O":
        file.create_dataset(name, shape, h5py.vlen_dtype(np.float32))
    else:
        file.create_dataset(name, data=np.ones(shape, kind if kind != "S5" else "S5"))


def _filtered(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    options: dict[str, Any] = chance.choice(
        (
            {"compression": "gzip"},
            {"compression": "gzip", "shuffle": True},
            {"compression": "lzf"},
            {"fletcher32": True},
            {"scaleoffset": 2},
            {"fillvalue": 3},
        )
    )
    file.create_dataset(name, data=np.ones((4, 3), np.float32), chunks=(2, 3), **options)


def _claiming(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    shape = chance.choice(_HUGE)
    chunks = tuple(min(extent, 256) for extent in shape) if chance.random() < 0.7 else None
    file.create_dataset(name, shape, np.float32, chunks=chunks)


def _linked(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    import h5py

    other = chance.choice(names)
    link: Any = chance.choice(
        (
            h5py.SoftLink("/" + other),
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink("/" + name),
            h5py.ExternalLink("other.h5", "/" + other),
            h5py.ExternalLink("/dev/zero", "/"),
        )
    )
    file[name] = file[other] if other in file and chance.random() < 0.3 else link


def _elsewhere(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    import h5py

    if chance.random() < 0.5:
        where = [(chance.choice(("raw.bin", "/dev/zero", "/etc/hostname")), 0, 24)]
        file.create_dataset(name, (2, 3), np.float32, external=where)
        return
    layout = h5py.VirtualLayout((2, 3), np.float32)
    layout[0] = h5py.VirtualSource(chance.choice((".", "other.h5")), chance.choice(names), (3,))
    file.create_virtual_dataset(name, layout)


def _other(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    import h5py

    act = chance.randrange(4)
    if act == 0:
        file.create_group(name)
    elif act == 1:
        file[name] = np.dtype("<f4")
    elif act == 2:
        file.create_dataset(name, data=h5py.Empty("f4"))
    else:
        file[name] = np.array([(1, 2.0)], [("a", "<i4"), ("b", "<f4")])


_ODD: tuple[Callable[[Any, str, Sequence[str], random.Random], None], ...] = (
    *(_typed, _filtered, _filtered, _claiming, _linked, _elsewhere, _other),
)


def _odd_object(file: Any, name: str, names: Sequence[str], chance: random.Random) -> None:
    chance.choice(_ODD)(file, name, names, chance)
