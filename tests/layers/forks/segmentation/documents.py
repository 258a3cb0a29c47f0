"""Databases of documents."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from caffecompat.data.codec.images import encode_image
from tests.data.databases import write_records


def field(number: int, kind: int, content: bytes) -> bytes:
    tag = number << 3 | kind
    head = bytes([tag & 127 | 128, tag >> 7]) if tag > 127 else bytes([tag])
    return head + content


def text(number: int, content: bytes) -> bytes:
    assert len(content) < 128 * 128
    size = len(content)
    length = bytes([size & 127 | 128, size >> 7]) if size > 127 else bytes([size])
    return field(number, 2, length + content)


def document(pixels: np.ndarray, encoding: str = "none", decade: float | None = None) -> bytes:
    """A DocumentDatum by hand: the image is field 1, the country field 11, the decade field 15."""
    channels, height, width = pixels.shape
    data = pixels.tobytes()
    if encoding != "none":
        data = encode_image(np.ascontiguousarray(pixels.transpose(1, 2, 0)), encoding)
    image = b"".join(field(i, 0, bytes([n])) for i, n in enumerate((channels, height, width), 1))
    image += text(4, data) + (text(7, encoding.encode()) if encoding != "none" else b"")
    record = text(1, image) + field(11, 0, bytes([int(pixels[0, 0, 0]) % 100]))
    if decade is not None:
        record += field(15, 5, struct.pack("<f", decade))
    return record


def numbered(count: int = 30, channels: int = 1) -> list[np.ndarray]:
    """Images that all have their number as the first value."""
    made = np.random.default_rng(0).integers(0, 256, (count, channels, 2, 3), np.uint8)
    made[:, 0, 0, 0] = np.arange(count)
    return list(made)


def database(folder: Path, records: list[bytes], name: str = "db") -> str:
    write_records(folder / name, records)
    return str(folder / name)
