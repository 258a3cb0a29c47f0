"""Decoding, encoding, resizing and drawing of images; the only module that imports OpenCV."""

from __future__ import annotations

import functools
import os
import struct
import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.image_headers import image_size, jpeg_frame, jpeg_scans
from caffecompat.errors import CaffeError, DataError, FileProblem, MissingExtra
from caffecompat.input_files import open_input

# The pixel limit is 134 million, 400 MB in colour, and for small files
# _PIXELS_OF_A_SMALL_FILE + _PIXELS_PER_BYTE * file size; photographs have 2 to 20 pixels per byte.
MAX_PIXELS = 1 << 27
_PIXELS_OF_A_SMALL_FILE = 1 << 24
_PIXELS_PER_BYTE = 1024
# The limit for pixels times scans of a progressive JPEG; each scan is a pass over all pixels.
_MAX_SCANNED_PIXELS = 1 << 31
MAX_IMAGE_BYTES = 1 << 29

_SIGNATURES: dict[str, Any] = {
    "jpg": b"\xff\xd8\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "bmp": b"BM",
    "tif": (b"II*\0", b"MM\0*"),
    "webp": b"RIFF",
}

_END_OF_JPEG = b"\xff\xd9"
# The end marker must be in this many bytes; some programs append a few bytes.
_TAIL_BYTES = 1024

Pixels = NDArray[np.uint8]
Colour = Literal["unchanged", "color", "gray"]
Interpolation = Literal["smooth", "bilinear", "bicubic", "area"]


def read_image_file(path: bytes) -> bytes:
    """The bytes of an image file, at most 512 MiB.

    Raises:
        DataError: it is missing, not a regular file, too large or not readable; the message does
            not name it.
    """
    name = os.fsdecode(path)
    try:
        with open_input(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_IMAGE_BYTES:
                raise DataError(
                    f"it has {size:,} bytes, more than the {MAX_IMAGE_BYTES:,} of the largest "
                    "image that is read"
                )
            return file.read(size)
    except FileProblem as error:
        reason = str(error).removeprefix(f"{name}: ").removeprefix("cannot be read: ")
        raise DataError(f"it cannot be read: {reason}") from error
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror or error}") from error


def decode_image(data: bytes, colour: Colour) -> NDArray[Any] | None:
    """The pixels of an encoded image, or None if the bytes cannot be decoded.

    Args:
        data: the bytes of a JPEG, PNG, ... file.
        colour: ``color`` always gives 3 channels, ``gray`` always one, both of 8 bit;
            ``unchanged`` keeps what is stored: 1, 3 or 4 channels, 8 or 16 bit.

    Returns:
        height x width (one channel) or height x width x channels in B, G, R (, alpha) order.

    Raises:
        DataError: by its header it has more than 2^27 pixels, or more than 2^24 plus 1024 per
            byte; no memory has been allocated for it.
    """
    if not _is_bounded(data):
        return None
    cv2 = opencv()
    flags = {
        "unchanged": cv2.IMREAD_UNCHANGED,
        "color": cv2.IMREAD_COLOR,
        "gray": cv2.IMREAD_GRAYSCALE,
    }
    try:
        decoded: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags[colour])
    except cv2.error:
        return None
    return decoded


def decode_file(data: bytes, colour: Colour) -> NDArray[Any] | None:
    """The pixels of an image file: as :func:`decode_image`, and of a JPEG that is cut off as well.

    What is missing of it is gray. So does ``cv2.imread``, by which Caffe reads files, while the
    decoder of a record refuses most of them; the JPEG library writes a line to standard error.

    Raises:
        DataError: as :func:`decode_image`.
    """
    pixels = decode_image(data, colour)
    if pixels is None and image_kind(data) == "jpg" and is_cut_off(data):
        pixels = decode_image(data + _END_OF_JPEG, colour)
    return pixels


def read_pixels(path: bytes, colour: Colour) -> NDArray[Any]:
    """The pixels of an image file, as :func:`decode_file`.

    Raises:
        DataError: as :func:`read_image_file`, or it is no image; the message does not name it.
    """
    pixels = decode_file(read_image_file(path), colour)
    if pixels is None:
        raise DataError("it is not an image that OpenCV can decode")
    return pixels


def encode_image(pixels: Pixels, encoding: str) -> bytes:
    """Encodes pixels as the bytes of an image file.

    Args:
        pixels: height x width [x 3], B, G, R.
        encoding: a file extension without its dot: ``png``, ``jpg``, ...

    Raises:
        DataError: there is no encoder of that name.
    """
    cv2 = opencv()
    try:
        done, encoded = cv2.imencode(f".{encoding}", pixels)
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"images cannot be encoded as {encoding!r}; use png or jpg")
    return bytes(encoded)


def split_channels(pixels: Pixels, planes: list[Pixels], mirror: bool) -> Sequence[Pixels]:
    """Splits interleaved channels into planes, optionally flipped left to right.

    Several times faster than a transposed copy by numpy.

    Args:
        pixels: height x width x channels (at most 4); rows may have gaps between them.
        planes: one height x width array per channel; the result uses their memory.
        mirror: whether to flip.
    """
    cv2 = opencv()
    channels: Sequence[Pixels] = cv2.split(cv2.flip(pixels, 1) if mirror else pixels, planes)
    return channels


def copy_interleaved(pixels: Pixels, out: Pixels, mirror: bool) -> None:
    """Copies an image, optionally flipped left to right.

    Args:
        pixels: height x width x channels (at most 4); rows may have gaps between them.
        out: of the same shape, without gaps.
        mirror: whether to flip.
    """
    if mirror:
        opencv().flip(pixels, 1, out)
    else:
        np.copyto(out, pixels)


def resize_image(pixels: Pixels, width: int, height: int) -> Pixels:
    """Bilinear resize to height x width without smoothing, as in Caffe."""
    return opencv().resize(pixels, (width, height))


def resize_nearest(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize to height x width; each pixel takes the value of the nearest one."""
    cv2 = opencv()
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)


def scale_image(pixels: NDArray[Any], factor: float, interpolation: str = "LINEAR") -> NDArray[Any]:
    """Resize by a factor, bilinear without smoothing; sides are rounded to whole pixels.

    Args:
        pixels: height x width [x channels], uint8 or float32.
        factor: of both sides, positive.
        interpolation: LINEAR, AREA, NEAREST or CUBIC.
    """
    cv2 = opencv()
    method = getattr(cv2, f"INTER_{interpolation}")
    scaled: NDArray[Any] = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=method)
    return scaled


def scale_channels(
    pixels: NDArray[Any], height: int, width: int, interpolation: str | None = None
) -> NDArray[Any]:
    """Resizes for training: bilinear, or area averaging if the smallest side is at least halved.

    Bilinear is several times faster than averaging, and down to one half it uses every pixel.

    Args:
        pixels: channels x height x width, uint8 or float32, in any order in memory.
        height, width: of the result.
        interpolation: LINEAR, AREA, NEAREST or CUBIC, to use that one.

    Returns:
        channels x ``height`` x ``width`` of the same type, a view where channels are interleaved.
    """
    if pixels.shape[1:] == (height, width):
        return pixels
    cv2 = opencv()
    halved = 2 * min(height, width) <= min(pixels.shape[1:])
    method = cv2.INTER_AREA if halved else cv2.INTER_LINEAR
    if interpolation is not None:
        method = getattr(cv2, f"INTER_{interpolation}")

    def resized(image: NDArray[Any]) -> NDArray[Any]:
        scaled: NDArray[Any] = cv2.resize(image, (width, height), interpolation=method)
        return scaled

    if not 1 < len(pixels) <= 4:
        return np.stack([resized(plane) for plane in pixels])
    interleaved = pixels.strides[0] == pixels.itemsize
    together = pixels.transpose(1, 2, 0) if interleaved else cv2.merge(list(pixels))
    return resized(together).transpose(2, 0, 1)


def isotropic_size(height: int, width: int, side: int, round_down: bool = False) -> tuple[int, int]:
    """Height and width, in pixels, of an image rescaled so that its smallest side is ``side``.

    The other side is rounded to the nearest pixel, or down.
    """
    shortest = min(height, width)
    # Integer arithmetic, so that the size does not depend on floating-point rounding.
    half = 0 if round_down else shortest
    return (
        side if height == shortest else (2 * height * side + half) // (2 * shortest),
        side if width == shortest else (2 * width * side + half) // (2 * shortest),
    )


def rescale_image(
    pixels: Pixels, height: int, width: int, interpolation: Interpolation = "smooth"
) -> Pixels:
    """Resizes an image; ``"smooth"`` averages areas where it shrinks and is bicubic otherwise."""
    cv2 = opencv()
    # Area averaging shrinks without aliasing, but does not interpolate when an image grows.
    methods = {
        "smooth": cv2.INTER_AREA if height < pixels.shape[0] else cv2.INTER_CUBIC,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
    }
    return cv2.resize(pixels, (width, height), interpolation=methods[interpolation])


def same_encoding(first: str, second: str) -> bool:
    """Whether two suffixes, without the dot and in lower case, name one encoding."""
    return first == second or {first, second} <= {"jpg", "jpeg"}


def image_kind(data: bytes) -> str | None:
    """The format of an encoded image by its signature (``jpg``, ``png``, ...), None if unknown."""
    found = (kind for kind, signature in _SIGNATURES.items() if data.startswith(signature))
    return next(found, None)


def image_shape(data: bytes) -> tuple[int, int, int] | None:
    """Channels, height, width of an encoded image; a JPEG's or PNG's from its header.

    Returns None for bytes that cannot be decoded.
    """
    shape = _jpeg_shape(data) or _png_shape(data)
    if shape is None:
        pixels = decode_image(data, "unchanged")
        if pixels is None:
            return None
        shape = (pixels.shape[2] if pixels.ndim == 3 else 1, *pixels.shape[:2])
    return shape


def is_cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG has no end marker; decoders often do not report that."""
    end = {"jpg": _END_OF_JPEG, "png": b"IEND"}.get(image_kind(data) or "")
    return end is not None and end not in data[-_TAIL_BYTES:]


def draw_text(pixels: Pixels, text: str, left: int, bottom: int) -> None:
    """Draws a line of small black ASCII text into an image; (left, bottom) is its lower left."""
    cv2 = opencv()
    place = (left, bottom)
    cv2.putText(pixels, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def _is_bounded(data: bytes) -> bool:
    """Whether the bytes are an image; raises DataError if it is too large."""
    size = image_size(data)
    if size is None:
        return False
    height, width = size
    limit = min(MAX_PIXELS, _PIXELS_OF_A_SMALL_FILE + _PIXELS_PER_BYTE * len(data))
    if height * width > limit:
        # A larger file of the same image may have more pixels, up to the limit for all.
        larger = " or encode it again" if height * width <= MAX_PIXELS else ""
        raise DataError(
            f"by its header it is {height}x{width} (height x width), more than the {limit:,} "
            f"pixels that {len(data):,} bytes may have; scale it down{larger}"
        )
    # A scan has at least 10 bytes, so most files are too small for the count to matter.
    largest = height * width * (len(data) // 10)
    if largest > _MAX_SCANNED_PIXELS and data.startswith(_SIGNATURES["jpg"]):
        scans = jpeg_scans(data)
        if height * width * scans > _MAX_SCANNED_PIXELS:
            raise DataError(
                f"it is a JPEG of {height}x{width} pixels in {scans:,} scans, more than can be "
                "decoded in a reasonable time; encode it again"
            )
    return True


def _jpeg_shape(data: bytes) -> tuple[int, int, int] | None:
    frame = jpeg_frame(data)
    return None if frame is None else (1 if frame[0] == 1 else 3, *frame[1:])


def _png_shape(data: bytes) -> tuple[int, int, int] | None:
    # For gray with alpha and for palettes the number of channels depends on the decoder.
    if not data.startswith(_SIGNATURES["png"]) or len(data) < 26 or data[25] not in (0, 2, 6):
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return {0: 1, 2: 3, 6: 4}[data[25]], height, width


def compute_in_calling_threads() -> None:
    """Makes OpenCV compute each call in the thread that calls it, if OpenCV has been loaded.

    Several threads that call it would otherwise share its own threads, and be slower than without
    them. The setting is one of OpenCV for the whole process.
    """
    if "cv2" in sys.modules:
        _use_one_thread()


@functools.cache
def _use_one_thread() -> None:
    opencv().setNumThreads(1)


@functools.cache
def opencv() -> Any:
    """The module cv2.

    Raises:
        MissingExtra, CaffeError: it is not installed, or cannot be loaded.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtra("reading and writing images", "opencv-headless") from error
    except ImportError as error:
        raise CaffeError(
            f"OpenCV, which decodes images, cannot be loaded ({error}); on a machine without "
            "libGL run: pip install --force-reinstall opencv-python-headless"
        ) from error
    return cv2
