"""Records of images with a label for each pixel."""

from __future__ import annotations

import numpy as np

from caffecompat.data.codec.images import encode_image


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def record(pixels: np.ndarray, labels: np.ndarray, packed: bool = True) -> bytes:
    """A Datum as HybridNet's Caffe writes it: data 4, encoded 7, labels 8."""
    data = encode_image(pixels, "png")
    numbers = [varint(int(label)) for label in labels.ravel()]
    joined = b"".join(numbers)
    if packed:
        field = b"\x42" + varint(len(joined)) + joined
    else:
        field = b"".join(b"\x40" + number for number in numbers)
    return b"\x22" + varint(len(data)) + data + b"\x38\x01" + field


def picture(number: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels that tell their image, row and column."""
    rows, columns = np.indices((height, width))
    pixels = np.stack([np.full_like(rows, 10 * number), rows, columns], 2).astype(np.uint8)
    return pixels, rows * 20 + columns + number
