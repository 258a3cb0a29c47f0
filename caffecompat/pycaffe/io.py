"""Images, blobs and datums as arrays: what ``caffe.io`` is in pycaffe.

Images are arrays of height x width x channels, float32 in [0, 1], channels in R, G, B order.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.codec.images import decode_image, read_image_file
from caffecompat.errors import CaffeError, DataError
from caffecompat.pycaffe.errors import ImageFileError, MissingImage
from caffecompat.pycaffe.proto import caffe_pb2
from caffecompat.pycaffe.resizing import resize_centers, zoom_corners

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


class Transformer:
    """Turns images into the values of a net's inputs, and back.

    :meth:`preprocess` works in this order, each step only where it is set: resize to the input's
    height and width, transpose, channel_swap, times raw_scale, minus mean, times input_scale. So
    the mean is in units of raw_scale and in swapped channels.

    Args:
        inputs: the shape (N, C, H, W) of each input, by name.

    Attributes:
        inputs, transpose, channel_swap, raw_scale, mean, input_scale: a dict by input's name each.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: Array) -> Array:
        """An image as values of the input ``in_``, without the axis of the batch.

        As in pycaffe, the result is a view of a float32 array that needs neither resizing nor a
        swap of channels, and the steps after that change the array itself; pass a copy to keep it.

        Args:
            in_: the name of an input.
            data: height x width x channels where ``transpose`` is (2, 0, 1).

        Returns:
            a float32 array, channels x height x width.

        Raises:
            DataError: there is no such input, or the image does not fit the settings.
        """
        self._check_input(in_)
        values = np.asarray(data).astype(np.float32, copy=False)
        if not values.flags.writeable:
            values = values.copy()
        size = tuple(self.inputs[in_][2:])
        if values.shape[:2] != size:
            values = resize_image(values, size)
        transpose = self.transpose.get(in_)
        if transpose is not None:
            self._check_axes(in_, values)
            values = values.transpose(transpose)
        channel_swap = self.channel_swap.get(in_)
        if channel_swap is not None:
            self._check_channels(in_, values)
            values = values[list(channel_swap), :, :]
        if in_ in self.raw_scale:
            values *= self.raw_scale[in_]
        if in_ in self.mean:
            self._check_mean(in_, values)
            values -= self.mean[in_]
        if in_ in self.input_scale:
            values *= self.input_scale[in_]
        return values

    def deprocess(self, in_: str, data: Array) -> Array:
        """The image of an input's values: :meth:`preprocess` in reverse, but never resized.

        Args:
            in_: the name of an input.
            data: channels x height x width, with or without an axis of one sample before them.

        Returns:
            the image, without axes of extent 1 where no setting needs them.

        Raises:
            DataError: there is no such input.
        """
        self._check_input(in_)
        values = self._sample(in_, data)
        if in_ in self.input_scale:
            values /= self.input_scale[in_]
        if in_ in self.mean:
            values += self.mean[in_]
        if in_ in self.raw_scale:
            values /= self.raw_scale[in_]
        channel_swap = self.channel_swap.get(in_)
        if channel_swap is not None:
            values = values[np.argsort(channel_swap), :, :]
        transpose = self.transpose.get(in_)
        if transpose is not None:
            values = values.transpose(tuple(int(axis) for axis in np.argsort(transpose)))
        return values

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of axes: (2, 0, 1) makes height x width x channels what Caffe expects.

        Raises:
            DataError: it has not one number for each axis of the input but the first.
        """
        self._check_input(in_)
        if len(order) != len(self.inputs[in_]) - 1:
            raise DataError(
                f"Transpose order needs to have the same number of dimensions as the input: "
                f"{tuple(order)} has {len(order)}, input {in_!r} has "
                f"{len(self.inputs[in_]) - 1} without its batch"
            )
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Sets the order of channels: (2, 1, 0) makes R, G, B what most Caffe models expect.

        Raises:
            DataError: it has not one number for each channel of the input.
        """
        self._check_input(in_)
        if len(order) != self.inputs[in_][1]:
            raise DataError(
                f"Channel swap needs to have the same number of dimensions as the input channels: "
                f"{tuple(order)} has {len(order)}, input {in_!r} has {self.inputs[in_][1]} channels"
            )
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Sets the factor before the mean is subtracted; 255 for models of 8-bit images."""
        self._check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """Sets the mean to subtract, in units of raw_scale and in swapped channels.

        Args:
            in_: the name of an input.
            mean: one value per channel, height x width for one channel, or
                channels x height x width of the input.

        Raises:
            DataError: the mean has another shape.
        """
        self._check_input(in_)
        shape = mean.shape
        expected = tuple(self.inputs[in_][1:])
        if mean.ndim == 1:
            if shape[0] != expected[0]:
                raise DataError(
                    f"Mean channels incompatible with input: the mean has {shape[0]}, "
                    f"input {in_!r} has {expected[0]} channels"
                )
            self.mean[in_] = mean[:, np.newaxis, np.newaxis]
            return
        if mean.ndim == 2:
            shape = (1, *shape)
        if len(shape) != 3:
            raise DataError(
                f"Mean shape invalid: {mean.shape}, expected (channels,) or "
                "(channels, height, width)"
            )
        if shape != expected:
            raise DataError(
                f"Mean shape incompatible with input shape: the mean has {shape}, input {in_!r} "
                f"has {expected}; mean.mean(axis=(1, 2)) gives a mean per channel for any size"
            )
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Sets the factor after the mean is subtracted."""
        self._check_input(in_)
        self.input_scale[in_] = scale

    def _check_input(self, in_: str) -> None:
        if in_ not in self.inputs:
            raise DataError(f"{in_} is not one of the net inputs: {list(self.inputs)}")

    def _sample(self, in_: str, data: Array) -> Array:
        """A copy of values without axes of extent 1, or with them where the settings need them."""
        values = data.astype(data.dtype if data.dtype.kind == "f" else np.float32)
        axes = len(self.inputs[in_]) - 1
        settings: tuple[Mapping[str, Any], ...] = (self.transpose, self.channel_swap, self.mean)
        if any(in_ in setting for setting in settings) and values.squeeze().ndim < axes:
            return values[0] if values.ndim == axes + 1 and len(values) == 1 else values
        return values.squeeze()

    def _check_axes(self, in_: str, values: Array) -> None:
        if values.ndim != len(self.transpose[in_]):
            raise DataError(
                f"input {in_!r}: the image has shape {values.shape}, the transpose order "
                f"{self.transpose[in_]} needs {len(self.transpose[in_])} axes"
            )

    def _check_channels(self, in_: str, values: Array) -> None:
        if max(self.channel_swap[in_]) >= len(values):
            raise DataError(
                f"input {in_!r}: the image has {len(values)} channels, channel_swap is "
                f"{self.channel_swap[in_]}"
            )

    def _check_mean(self, in_: str, values: Array) -> None:
        mean = self.mean[in_]
        pairs = zip(mean.shape[::-1], values.shape[::-1], strict=False)
        if mean.ndim > values.ndim or any(one not in (1, extent) for one, extent in pairs):
            raise DataError(
                f"input {in_!r}: the image has shape {values.shape} before the mean of shape "
                f"{mean.shape} is subtracted; set transpose and the size of the input to match"
            )


def load_image(filename: str | os.PathLike[str], color: bool = True) -> Array:
    """An image file as float32 array in [0, 1], height x width x channels.

    Args:
        filename: a JPEG, PNG or other image that OpenCV reads.
        color: True for 3 channels, R, G, B, also of a gray image; an alpha channel is left out.
            False for 1 channel, of which a colour image gives its luminance.

    Raises:
        MissingImage (a FileNotFoundError): there is no such file.
        ImageFileError (an OSError): it is no image, or cannot be read; the message names it.
        MissingExtra: OpenCV is not installed.
    """
    name = os.fspath(filename)
    try:
        pixels = decode_image(read_image_file(os.fsencode(name)), "unchanged")
    except DataError as error:
        kind = ImageFileError if os.path.exists(name) else MissingImage
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


def resize_image(im: Array, new_dims: ArrayLike, interp_order: int = 1) -> Array:
    """Resizes an image to height and width.

    Images of 1 or 3 channels get what scikit-image 0.19 to 0.26 give (pixels as areas, smoothed
    where the image shrinks, darkened at the edges where it grows), all others what scipy's zoom
    gives (pixels as points, not smoothed), both as in pycaffe. A constant image keeps its value.

    Args:
        im: height x width x channels.
        new_dims: (height, width).
        interp_order: 0 for the nearest pixel, 1 for linear, 2 to 5 for splines, which need scipy.

    Returns:
        float32.

    Raises:
        DataError: the image has not three axes, or the size is not positive.
        MissingExtra: the order is above 1 and scipy is not installed.
    """
    height, width = (int(extent) for extent in np.asarray(new_dims).ravel()[:2])
    if im.ndim != 3 or min(height, width) < 1 or not im.size:
        raise DataError(
            f"resize_image: an image of shape {im.shape} to {height} x {width}; expected height x "
            "width x channels and a positive size"
        )
    if im.shape[-1] not in (1, 3):
        return zoom_corners(im, height, width, interp_order).astype(np.float32)
    low, high = im.min(), im.max()
    if not high > low:
        return np.full((height, width, im.shape[-1]), low, dtype=np.float32)
    # Between 0 and 1 because what is outside the image counts as 0, which is then the darkest.
    resized = resize_centers((im - low) / (high - low), height, width, interp_order)
    if im.dtype == np.float32:
        resized = resized.astype(np.float32)
    return (resized * (high - low) + low).astype(np.float32)


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
