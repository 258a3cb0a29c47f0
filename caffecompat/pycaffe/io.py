"""Images, blobs and datums as arrays: what ``caffe.io`` is in pycaffe.

Images are arrays of height x width x channels, float32 in [0, 1], channels in R, G, B order.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.codec.images import decode_file, decode_image, read_image_file
from caffecompat.errors import CaffeError, DataError
from caffecompat.pycaffe.errors import ImageFileError, MissingImage
from caffecompat.pycaffe.images.resizing import resize_image as resize_image
from caffecompat.pycaffe.images.transformer import Transformer as Transformer
from caffecompat.pycaffe.proto import caffe_pb2

Array = NDArray[Any]

# Functions of other libraries that scripts take from here: name -> library and what to import.
_BORROWED = {
    "skimage": ("scikit-image", "skimage.io"),
    "resize": ("scikit-image", "skimage.transform"),
    "zoom": ("scipy", "scipy.ndimage"),
}

# The luminance of R, G and B in scikit-image, which pycaffe reads images by.
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])


class MissingLibrary(CaffeError, AttributeError):
    """A function of another library that is not installed."""


def __getattr__(name: str) -> Any:
    if name not in _BORROWED:
        raise AttributeError(f"module 'caffe.io' has no attribute {name!r}")
    library, module_name = _BORROWED[name]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise MissingLibrary(
            f"caffe.io.{name} is a part of {library}, which is not installed: pip install "
            f"{library}; caffe.io.resize_image and caffe.io.load_image do without"
        ) from error
    return sys.modules[name] if name == "skimage" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_BORROWED])


def blobproto_to_array(blob: Any, return_diff: bool = False) -> Array:
    """The values of a BlobProto, or its gradients, in its shape.

    Args:
        blob: a BlobProto of any generation: with ``shape``, with num, channels, height and width,
            or with neither, which is a single value of no axes.
        return_diff: gradients instead of values.

    Returns:
        a float64 array.

    Raises:
        DataError: the number of values is not that of the shape.
    """
    field = "diff" if return_diff else "data"
    stored = getattr(blob, field) or getattr(blob, f"double_{field}")
    values = np.fromiter(stored, np.float64, len(stored))
    legacy = ("num", "channels", "height", "width")
    if any(blob.HasField(name) for name in legacy):
        shape = tuple(getattr(blob, name) for name in legacy)
    else:
        shape = tuple(blob.shape.dim)
    try:
        return values.reshape(shape)
    except ValueError:
        raise DataError(
            f"BlobProto: {field} has {values.size:,} values, which do not fill its shape "
            f"{shape}; set blob.shape.dim to the shape of the array"
        ) from None


def array_to_blobproto(arr: Array, diff: Array | None = None) -> Any:
    """A BlobProto with the shape and the values of an array, and gradients where they are given.

    Raises:
        DataError: the gradients have another shape.
    """
    if diff is not None and diff.shape != arr.shape:
        raise DataError(
            f"array_to_blobproto: diff has shape {diff.shape}, arr has {arr.shape}; "
            "they must be the same"
        )
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(arr.astype(float).ravel().tolist())
    if diff is not None:
        blob.diff.extend(diff.astype(float).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Sequence[Array]) -> bytes:
    """A BlobProtoVector of arrays, serialized, as it is passed to networks elsewhere."""
    vector = caffe_pb2.BlobProtoVector()
    vector.blobs.extend([array_to_blobproto(array) for array in arraylist])
    serialized: bytes = vector.SerializeToString()
    return serialized


def blobprotovector_str_to_arraylist(serialized: bytes) -> list[Array]:
    """The arrays of a serialized BlobProtoVector."""
    vector = caffe_pb2.BlobProtoVector()
    vector.ParseFromString(serialized)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: Array, label: int | None = None) -> Any:
    """A Datum of an array of channels x height x width.

    uint8 values become ``data``, all others ``float_data``.

    Raises:
        DataError: the array has not three axes.
    """
    if arr.ndim != 3:
        raise DataError(
            f"array_to_datum: the array has shape {arr.shape}, expected channels x height x "
            "width; give a gray image an axis with image[numpy.newaxis]"
        )
    datum = caffe_pb2.Datum()
    datum.channels, datum.height, datum.width = arr.shape
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel().tolist())
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum: Any) -> Array:
    """The values of a Datum, channels x height x width.

    Returns:
        uint8 where ``data`` holds pixels, float64 where ``float_data`` does. An encoded image
        (``encoded: true``) is decoded, its channels in B, G, R order, as the Data layer sees it.

    Raises:
        DataError: the number of values is not that of the shape, or the image is damaged.
    """
    if datum.encoded:
        pixels = decode_image(datum.data, "unchanged")
        if pixels is None:
            raise DataError("Datum: says that it is encoded, but its data is no image")
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if len(datum.data):
        values: Array = np.frombuffer(datum.data, dtype=np.uint8).copy()
    else:
        values = np.array(datum.float_data).astype(float)
    shape = (datum.channels, datum.height, datum.width)
    try:
        return values.reshape(shape)
    except ValueError:
        raise DataError(
            f"Datum: {values.size:,} values do not fill channels x height x width = {shape}"
        ) from None


def load_image(filename: str | os.PathLike[str] | BinaryIO, color: bool = True) -> Array:
    """An image file as float32 array in [0, 1], height x width x channels.

    Args:
        filename: a JPEG, PNG or other image that OpenCV reads; or a file that is open in binary
            mode, such as io.BytesIO, which is read from its position on.
        color: True for 3 channels, R, G, B, also of a gray image; an alpha channel is left out.
            False for 1 channel, of which a colour image gives its luminance.

    Raises:
        MissingImage (a FileNotFoundError): there is no such file.
        ImageFileError (an OSError): it is no image, or cannot be read; the message names it.
        MissingExtra: OpenCV is not installed.
    """
    name = _name_of(filename)
    try:
        pixels = decode_file(_content(filename), "unchanged")
    except DataError as error:
        there = name == _OPEN_FILE or os.path.exists(name)
        kind = ImageFileError if there else MissingImage
        raise kind(f"{name}: {error}") from error
    if pixels is None:
        raise ImageFileError(
            f"{name}: it is no image, or damaged; the formats are JPEG, PNG, BMP, TIFF"
        )
    scaled = pixels.astype(np.float64)
    if np.issubdtype(pixels.dtype, np.integer):
        scaled /= np.iinfo(pixels.dtype).max
    if pixels.ndim == 2:
        image = scaled[:, :, np.newaxis]
        return np.tile(image, (1, 1, 3 if color else 1)).astype(np.float32)
    # OpenCV has B, G, R and perhaps alpha.
    rgb = scaled[:, :, 2::-1]
    return (rgb if color else (rgb @ _LUMINANCE)[:, :, np.newaxis]).astype(np.float32)


# What messages call an image that is read from one.
_OPEN_FILE = "the open file"


def _name_of(file: str | os.PathLike[str] | BinaryIO) -> str:
    """What messages call an image file."""
    return os.fspath(file) if isinstance(file, (str, os.PathLike)) else _OPEN_FILE


def _content(file: str | os.PathLike[str] | BinaryIO) -> bytes:
    if isinstance(file, (str, os.PathLike)):
        return read_image_file(os.fsencode(os.fspath(file)))
    if not hasattr(file, "read"):
        raise TypeError(f"an image is a file's name or an open file, found {type(file).__name__}")
    content = file.read()
    if not isinstance(content, bytes):
        raise ImageFileError(
            f"{_OPEN_FILE} gives text; open images in binary mode, open(path, 'rb') or io.BytesIO"
        )
    return content


def oversample(images: Sequence[Array] | Array, crop_dims: ArrayLike) -> Array:
    """Ten crops of each image: four corners and the centre, then their mirrors.

    Args:
        images: arrays of one shape, height x width x channels.
        crop_dims: (height, width) of the crops.

    Returns:
        float32, 10 * images x height x width x channels, the ten of an image together.

    Raises:
        DataError: a crop is larger than the images.
    """
    height, width, channels = images[0].shape
    crop_height, crop_width = (int(extent) for extent in np.asarray(crop_dims).ravel()[:2])
    bottom, right = height - crop_height, width - crop_width
    if bottom < 0 or right < 0:
        raise DataError(
            f"oversample: crops of {crop_height} x {crop_width} from images of {height} x {width}; "
            "resize the images first"
        )
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.empty((10 * len(images), crop_height, crop_width, channels), dtype=np.float32)
    for number, image in enumerate(images):
        ten = crops[10 * number : 10 * number + 10]
        for place, (top, left) in enumerate(corners):
            ten[place] = image[top : top + crop_height, left : left + crop_width]
        ten[5:] = ten[:5, :, ::-1]
    return crops
