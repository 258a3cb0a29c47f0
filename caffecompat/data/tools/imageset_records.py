"""The records of convert-imageset: one image file as a Datum."""

from __future__ import annotations

import os

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
from caffecompat.data.sources.image_list import Entry, planes
from caffecompat.data.tools.imageset_settings import Settings
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.reporting.terminal import short_name


def image_record(root: str, entry: Entry | None, settings: Settings) -> Message | None:
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


def _resize(pixels: Pixels, data: bytes, settings: Settings) -> tuple[Pixels, bool]:
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
    data: bytes, pixels: Pixels, resized: bool, entry: Entry, settings: Settings
) -> Message:
    name = readable_name(entry.name)
    extension = name.rpartition(".")[2].lower()
    encoding = settings.encode_type or extension
    datum = schema.new("Datum")
    if not resized and same_encoding(extension, encoding.lower()):
        datum.data = data
    else:
        try:
            datum.data = encode_image(pixels, encoding)
        except DataError as error:
            raise DataError(f"{short_name(name)}: {error}") from error
    datum.label = entry.label
    datum.encoded = True
    return datum


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
