"""The records of convert-imageset: one image file as a Datum."""

from __future__ import annotations

import os

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import (
    Pixels,
    decode_file,
    encode_image,
    image_shape,
    isotropic_size,
    read_image_file,
    rescale_image,
    resize_image,
    same_encoding,
)
from caffecompat.data.sources.image_lists.image_list import Entry
from caffecompat.data.tools.imageset_settings import ImagesetSettings
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.reporting.terminal import short_name


def image_record(root: str, entry: Entry | None, settings: ImagesetSettings) -> Message | None:
    """The Datum of one image; None if ``entry`` is None or the image cannot be read."""
    if entry is None:
        return None
    try:
        data = read_image_file(os.fsencode(root) + entry.name)
        pixels = decode_file(data, "gray" if settings.gray else "color")
    except DataError:
        return None
    if pixels is None:
        return None
    pixels, resized = _resize(pixels, data, settings)
    if settings.encoded or settings.encode_type:
        return _encoded_datum(data, pixels, resized, entry, settings)
    datum = schema.new("Datum")
    channels = planes(pixels)
    datum.channels, datum.height, datum.width = channels.shape
    datum.data = channels.tobytes()
    datum.label = entry.label
    datum.encoded = False
    return datum


def _resize(pixels: Pixels, data: bytes, settings: ImagesetSettings) -> tuple[Pixels, bool]:
    """The resized image, and whether it must be encoded again."""
    if settings.min_side:
        height, width = pixels.shape[:2]
        size = isotropic_size(height, width, settings.min_side)
        if size == (height, width):
            shape = image_shape(data)
            # A file with other channels (gray, alpha) would not match the rescaled images.
            return pixels, shape is None or shape[0] != (1 if settings.gray else 3)
        return rescale_image(pixels, *size), True
    if settings.resize_width > 0 and settings.resize_height > 0:
        return resize_image(pixels, settings.resize_width, settings.resize_height), True
    # One of the two sizes alone resizes nothing, but makes Caffe encode the image again.
    return pixels, settings.resize_width > 0 or settings.resize_height > 0


def _encoded_datum(
    data: bytes, pixels: Pixels, resized: bool, entry: Entry, settings: ImagesetSettings
) -> Message:
    datum = schema.new("Datum")
    kept = None if resized else data
    datum.data = encoded_image(pixels, kept, readable_name(entry.name), settings.encode_type)
    datum.label = entry.label
    datum.encoded = True
    return datum


def encoded_image(pixels: Pixels, data: bytes | None, name: str, encode_type: str) -> bytes:
    """The bytes to store of an image.

    Args:
        pixels: the image.
        data: its file, which is taken if it has the encoding; None if the pixels were changed.
        name: that of the file, whose extension is the encoding without ``encode_type``.
        encode_type: the encoding; may be empty.

    Raises:
        DataError: there is no such encoding.
    """
    extension = name.rpartition(".")[2].lower()
    encoding = encode_type or extension
    if data is not None and same_encoding(extension, encoding.lower()):
        return data
    try:
        return encode_image(pixels, encoding)
    except DataError as error:
        raise DataError(f"{short_name(name)}: {error}") from error


def record_key(number: int, name: bytes) -> bytes:
    """The key of the record of an image: its number in the list, and its name there."""
    return b"%08d_%s" % (number, name)


def unequal_sizes(key: bytes, datum: Message, expected: int | None) -> DataError:
    """The error for a record of another size than the first one, which has ``expected`` bytes."""
    place = (
        f"record {short_name(readable_name(key))!r}: check_size: {len(datum.data)} bytes of data"
    )
    if datum.encoded:
        return DataError(
            f"{place}, but encoded images have no common size; leave out check_size or encoded"
        )
    return DataError(
        f"{place}, the first record has {expected}; give resize_width and resize_height, "
        "or leave out check_size"
    )


def readable_name(name: bytes) -> str:
    """A name or key of a record for messages."""
    return name.decode(errors="backslashreplace")
