"""The size of an encoded image by its header.

A file of a kilobyte may claim gigabytes of pixels, which decoders allocate before they read on.
All formats that OpenCV decodes are covered; other bytes are not an image. Sources: the
specifications of the formats. If a file can have several headers, the largest size is used.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from caffecompat.input_files import CLAIM_ALLOWANCE

Size = tuple[int, int]

# Markers of a JPEG that are followed by a length: all but TEM, RSTn, SOI and EOI. Decoders skip
# bytes between two markers, and any number of bytes 0xff before a marker.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xda-\xfe]")
# Frame headers; the excluded markers are tables.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SEGMENTS = 10_000
# How most JPEGs begin, up to the end of their frame header: a JFIF segment of 16 bytes and tables
# of quantization, one or two in a segment. One search for all takes a quarter of the time.
_USUAL_BEGINNING = re.compile(
    rb"\xff\xd8(?:\xff\xe0\0\x10.{14})?(?:\xff\xdb\0(?:\x43.{65}|\x84.{130})){0,4}"
    rb"\xff[\xc0-\xc3].{8}",
    re.DOTALL,
)
_START_OF_SCAN = b"\xff\xda"
_TEXT_HEADER = 1 << 16
# One blank or one comment per turn: with more there would be exponentially many ways to match.
_PORTABLE = re.compile(rb"P[1-6fF](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")
_TIFF_WIDTHS, _TIFF_HEIGHTS = (256, 322), (257, 323)
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}


def image_size(data: bytes) -> Size | None:
    """Height and width in pixels that an encoded image claims; None if it is not an image."""
    for starts, read in _KINDS:
        if data.startswith(starts):
            try:
                return read(data)
            # 64-bit offsets may be too large for an index.
            except (struct.error, IndexError, ValueError, OverflowError):
                return None
    return None


def jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Components, height and width of a JPEG by the frame header that decoders use.

    None if it is not a JPEG or has no frame header.
    """
    usual = _USUAL_BEGINNING.match(data)
    if usual is not None:
        height, width, components = struct.unpack_from(">HHB", data, usual.end() - 5)
        return components, height, width
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found.end() + 8 > len(data):
            break
        at = found.end()
        if data[at - 1] in _FRAME_MARKERS:
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            return components, height, width
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return None


def jpeg_scans(data: bytes) -> int:
    """An upper bound of the number of scans of a JPEG; each is a pass over all its pixels."""
    return data.count(_START_OF_SCAN)


def _jpeg(data: bytes) -> Size | None:
    frame = jpeg_frame(data)
    return None if frame is None else frame[1:]


def _png(data: bytes) -> Size | None:
    if data[12:16] != b"IHDR" or not _chunks_are_possible(data):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _chunks_are_possible(data: bytes) -> bool:
    """Whether no chunk of a PNG claims many more bytes than the file has.

    Decoders allocate a whole chunk before they read it. Slightly larger chunks are accepted, since
    the file may be cut off.
    """
    at = 8
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        if size > len(data) + CLAIM_ALLOWANCE:
            return False
        at += 12 + size
    return True


def _bmp(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(height), abs(width)


def _gif(data: bytes) -> Size:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _webp(data: bytes) -> Size | None:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        return None
    if kind == b"VP8X":
        return int.from_bytes(data[27:30], "little") + 1, int.from_bytes(data[24:27], "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _tiff(data: bytes) -> Size | None:
    order = "<" if data[:2] == b"II" else ">"
    large = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    (at,) = struct.unpack_from(f"{order}{'Q' if large else 'I'}", data, 8 if large else 4)
    (count,) = struct.unpack_from(f"{order}{'Q' if large else 'H'}", data, at)
    begin, step = (at + 8, 20) if large else (at + 2, 12)
    sizes: dict[int, int] = {}
    for entry in range(begin, min(begin + count * step, len(data) - step + 1), step):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if tag in _TIFF_WIDTHS + _TIFF_HEIGHTS and kind in _TIFF_TYPES:
            place = entry + (12 if large else 8)
            (number,) = struct.unpack_from(f"{order}{_TIFF_TYPES[kind]}", data, place)
            sizes[tag] = max(number, sizes.get(tag, 0))
    if _TIFF_WIDTHS[0] not in sizes or _TIFF_HEIGHTS[0] not in sizes:
        return None
    # A tile is decoded whole, even if it is larger than the image.
    return (
        max(sizes.get(tag, 0) for tag in _TIFF_HEIGHTS),
        max(sizes.get(tag, 0) for tag in _TIFF_WIDTHS),
    )


def _portable(data: bytes) -> Size | None:
    """PBM, PGM, PPM and PFM: width and height after the signature, with comments between them."""
    found = _PORTABLE.match(data[:_TEXT_HEADER])
    return None if found is None else (int(found[2]), int(found[1]))


def _pam(data: bytes) -> Size | None:
    return _largest(data, rb"HEIGHT\s+(\d+)", rb"WIDTH\s+(\d+)")


def _radiance(data: bytes) -> Size | None:
    return _largest(data, rb"[-+]Y\s+(\d+)", rb"[-+]X\s+(\d+)")


def _largest(data: bytes, height: bytes, width: bytes) -> Size | None:
    head = data[:_TEXT_HEADER]
    heights, widths = (
        [int(found[1]) for found in re.finditer(kind, head)] for kind in (height, width)
    )
    return (max(heights), max(widths)) if heights and widths else None


def _sun_raster(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 4)
    return height, width


def _jpeg_2000(data: bytes) -> Size | None:
    """By the largest SIZ segment: the grid's extent minus its offset."""
    sizes = [(0, 0)]
    for found in re.finditer(rb"\xff\x4f\xff\x51", data):
        if found.start() + 24 <= len(data):
            x, y, left, top = struct.unpack_from(">IIII", data, found.start() + 8)
            sizes.append((y - top, x - left))
    size = max(sizes, key=lambda each: each[0] * each[1])
    return size if size != (0, 0) else None


def _avif(data: bytes) -> Size | None:
    """By the largest ``ispe`` box, which has the extents of an image."""
    if data[4:8] != b"ftyp":
        return None
    sizes = [
        struct.unpack_from(">II", data, found.start() + 8)[::-1]
        for found in re.finditer(rb"ispe", data)
        if found.start() + 16 <= len(data)
    ]
    return max(sizes, key=lambda each: each[0] * each[1]) if sizes else None


_KINDS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], Size | None]], ...] = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    ((b"GIF87a", b"GIF89a"), _gif),
    (b"RIFF", _webp),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (tuple(b"P%c" % kind for kind in b"123456fF"), _portable),
    (b"P7", _pam),
    (b"#?", _radiance),
    (b"\x59\xa6\x6a\x95", _sun_raster),
    ((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), _jpeg_2000),
    (tuple(b"\0\0\0%c" % size for size in range(8, 128, 4)), _avif),
)
