"""Datum, the message of database records: one image or array and its label."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffecompat.data.codec.images import Colour, decode_image
from caffecompat.errors import DataError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message

_MESSAGE_IN_FIELD_1 = b"\x0a"


def parse_datum(value: bytes, name: str = "Datum") -> Message:
    """The Datum in a record's bytes.

    Args:
        value: the bytes.
        name: the message's name in the schema, for a Datum of a fork.

    Raises:
        DataError: the bytes are not a Datum.
    """
    if name == "Datum" and is_annotated(value):
        raise DataError(
            "it is an AnnotatedDatum, an image with boxes, as convert-annoset writes it; layers of "
            "type AnnotatedData read such records, and dataset info, show and verify"
        )
    try:
        return schema.message_class(name).FromString(value)
    except DecodeError as error:
        raise DataError(
            f"its {len(value)} bytes are not a Datum; the database is damaged or holds other data"
        ) from error


def is_annotated(value: bytes) -> bool:
    """Whether a record is an AnnotatedDatum.

    Its first field is a message; that of a Datum is the number of channels.
    """
    return value[:1] == _MESSAGE_IN_FIELD_1


def decode_datum(
    datum: Message, force_color: bool = False, force_gray: bool = False
) -> NDArray[Any]:
    """The array in a Datum: channels x height x width, images in B, G, R order.

    An encoded image is decoded as stored (gray: 1 channel, with alpha: 4) unless ``force_color``
    or ``force_gray`` is set. Both have no effect on records that are not encoded. If a record has
    both ``data`` and ``float_data``, ``data`` is used. Source: data_transformer.cpp.

    Returns:
        uint8, or float32 for ``float_data``; a read-only view of the message's bytes or a view
        of the decoded image. Copy it before writing.

    Raises:
        DataError: not an image, not 8 bit, or the number of values does not match the sizes.
    """
    if datum.encoded:
        return _decode_encoded(datum.data, force_color, force_gray)
    sizes = (datum.channels, datum.height, datum.width)
    values = (
        np.frombuffer(datum.data, np.uint8)
        if datum.data
        else np.array(datum.float_data, np.float32)
    )
    if min(sizes) < 1 or values.size != sizes[0] * sizes[1] * sizes[2]:
        raise DataError(
            f"it holds {values.size} values, but its sizes are "
            f"{sizes[0]}x{sizes[1]}x{sizes[2]} (channels x height x width)"
        )
    return values.reshape(sizes)


def _decode_encoded(data: bytes, force_color: bool, force_gray: bool) -> NDArray[Any]:
    if force_color and force_gray:
        raise DataError(
            "force_color and force_gray are both set, but they exclude each other; remove one"
        )
    colour: Colour = "color" if force_color else "gray" if force_gray else "unchanged"
    image = decode_image(data, colour)
    if image is None:
        raise DataError(f"its {len(data)} encoded bytes are not an image that OpenCV can decode")
    if image.dtype != np.uint8:
        raise DataError(
            f"its image has {8 * image.dtype.itemsize} bit per value, expected 8; set "
            "force_color or force_gray, or convert the images to 8 bit"
        )
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
