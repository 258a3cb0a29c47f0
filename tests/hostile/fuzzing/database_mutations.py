"""Small databases, and ways to damage their files: all a pure function of a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np

PAGE = 4096
# Numbers that counts, offsets and page numbers like to be broken by.
NUMBERS = (0, 1, 2, 3, 4, 8, 15, 16, 20, 4095, 4096, 4097, 0x7FFF, 0xFFFF, 1 << 31, (1 << 32) - 1)
LONG_NUMBERS = ((1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 40)


def lmdb_files(folder: Path) -> list[bytes]:
    """Data files of one to four levels, with values inside and outside their leaves."""
    chance = random.Random(1)
    kinds: list[tuple[int, int, Callable[[], int]]] = [
        (1, 8, lambda: 20),
        (60, 30, lambda: chance.choice((10, 700, 5000, 9000))),
        (90, 480, lambda: chance.choice((1, 50, 2500))),
        (400, 20, lambda: 30),
    ]
    files = []
    for number, (count, key_size, size) in enumerate(kinds):
        path = folder / f"lmdb-{number}"
        with lmdb.open(str(path), map_size=1 << 24, lock=False, sync=False) as environment:
            # Two transactions, so that pages are free, too.
            for part in range(2):
                with environment.begin(write=True) as transaction:
                    for i in range(part, count + part):
                        key = b"%08d" % i
                        transaction.put(key.ljust(key_size, b"k"), chance.randbytes(size()))
        files.append((path / "data.mdb").read_bytes())
    return files


def damaged_pages(data: bytes, chance: random.Random) -> bytes:
    """A file of pages with one to four mutations."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 4))):
        if out:
            chance.choice(_MOVES)(out, chance)
    return bytes(out)


def images() -> dict[str, bytes]:
    """Small images of every kind that OpenCV writes here, a photograph-like one in each."""
    noise = np.random.default_rng(1).integers(0, 256, (24, 31, 3), np.uint8)
    picture = cv2.resize(noise, (62, 48), interpolation=cv2.INTER_CUBIC)
    kinds = ("jpg", "png", "bmp", "webp", "tif", "ppm", "pgm", "pam", "pfm", "sr", "hdr", "jp2")
    found: dict[str, bytes] = {}
    for kind in (*kinds, "gif", "avif"):
        pixels: np.ndarray = picture[:, :, 0] if kind == "pgm" else picture
        pixels = pixels.astype(np.float32) if kind in ("pfm", "hdr") else pixels
        try:
            done, encoded = cv2.imencode(f".{kind}", pixels)
        except cv2.error:  # not every build writes all kinds
            continue
        if done:
            found[kind] = encoded.tobytes()
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    found["progressive jpg"] = cv2.imencode(".jpg", picture, progressive)[1].tobytes()
    return found


def damaged_bytes(data: bytes, chance: random.Random, head: int) -> bytes:
    """One to four mutations, half of them in the first ``head`` bytes."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        end = min(head, len(out)) if chance.random() < 0.5 else len(out)
        at = chance.randrange(end) if end else 0
        number = chance.choice(NUMBERS + LONG_NUMBERS)
        size = chance.choice((1, 2, 2, 4, 4, 8))
        piece = (number & ((1 << 8 * size) - 1)).to_bytes(size, chance.choice(("big", "little")))
        move = chance.randrange(5)
        if move == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif move == 1:
            del out[at:]
        elif move == 2:
            out[at:at] = out[at : at + chance.randint(1, 200)] * chance.choice((1, 1, 20))
        else:
            out[at : at + size] = piece
    return bytes(out)


def _flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.randrange(256)


def _set_number(data: bytearray, chance: random.Random) -> None:
    """A field of a meta page, of a page's header or among its node offsets."""
    page = chance.randrange(-(-len(data) // PAGE))
    at = page * PAGE + 2 * chance.randrange(80 if page < 2 else 24)
    kind, numbers = chance.choice((("H", NUMBERS), ("I", NUMBERS), ("Q", NUMBERS + LONG_NUMBERS)))
    size = struct.calcsize(kind)
    if at + size <= len(data):
        number = chance.choice((*numbers, chance.randrange(len(data) // PAGE + 2)))
        struct.pack_into(f"<{kind}", data, at, number & ((1 << 8 * size) - 1))


def _set_node(data: bytearray, chance: random.Random) -> None:
    """A field of a node: where its page's offsets say that it is."""
    page = chance.randrange(-(-len(data) // PAGE)) * PAGE
    if page + PAGE > len(data):
        return
    (lower,) = struct.unpack_from("<H", data, page + 12)
    if 18 <= lower <= PAGE:
        (offset,) = struct.unpack_from(
            "<H", data, page + 16 + 2 * chance.randrange((lower - 16) // 2)
        )
        at = page + offset + 2 * chance.randrange(6)
        if at + 2 <= len(data):
            struct.pack_into("<H", data, at, chance.choice(NUMBERS[:14]))


def _block(data: bytearray, chance: random.Random) -> None:
    at, size = chance.randrange(len(data)), chance.choice((2, 8, 64, 512, PAGE))
    size = min(size, len(data) - at)
    data[at : at + size] = chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.choice((chance.randrange(len(data)), chance.randrange(len(data)) & -PAGE)) :]


def _page_pair(data: bytearray, chance: random.Random) -> tuple[slice, slice]:
    pages = max(1, len(data) // PAGE)
    a, b = (chance.randrange(pages) * PAGE for _ in range(2))
    return slice(a, a + PAGE), slice(b, b + PAGE)


def _swap_pages(data: bytearray, chance: random.Random) -> None:
    a, b = _page_pair(data, chance)
    data[a], data[b] = bytes(data[b]), bytes(data[a])


def _copy_page(data: bytearray, chance: random.Random) -> None:
    """A page in another's place, half the time with the number of that place."""
    a, b = _page_pair(data, chance)
    data[a] = bytes(data[b])
    if chance.random() < 0.5 and a.start + 8 <= len(data):
        struct.pack_into("<Q", data, a.start, a.start // PAGE)


_MOVES = (
    *(_flip, _set_byte, _set_number, _set_number, _set_number, _set_node, _set_node),
    *(_block, _cut, _swap_pages, _copy_page),
)
