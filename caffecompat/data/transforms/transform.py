"""The transform of a decoded sample to a row of a batch: crop, mirror, mean, scale, extensions.

Source of the semantics: data_transformer.cpp.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.advice import suggested_side
from caffecompat.data.codec.channel_planes import ChannelPlanes, is_interleaved
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.codec.images import copy_interleaved
from caffecompat.data.counter_rng import draw, pick
from caffecompat.data.transforms.colour_pca import RandomShift
from caffecompat.data.transforms.crop_arithmetic import Crop, CropArithmetic, CropMean
from caffecompat.data.transforms.deferred_crops import DeferredCrops
from caffecompat.data.transforms.fork_resizing import resizing_of_fork
from caffecompat.data.transforms.rescale import Rescale, Resizing
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message
from caffecompat.reporting.units import format_shape
from caffecompat.weights.mean_file import read_mean

log = logging.getLogger(__name__)

Shape3 = tuple[int, int, int]
Floats = NDArray[np.float32]

# Fields of transform_param that BVLC Caffe does not have.
EXTENSIONS = (
    "img_rand_resize_lower",
    "img_rand_resize_upper",
    "colour_shift_std",
    "colour_eigenvalue",
    "colour_eigenvector",
    "crop_mean_file",
)


def refuse_extensions(message: Message, who: str) -> None:
    """Refuses extension fields for layers that do not use :class:`Transform`.

    Args:
        message: a TransformationParameter.
        who: the layer type, for the message.

    Raises:
        DataError: a field of :data:`EXTENSIONS` is set.
    """
    found = [name for name in EXTENSIONS if getattr(message, name)]
    if found:
        raise DataError(
            f"transform_param: {who} does not support {', '.join(found)}; remove it, or use a Data "
            "or ImageData layer"
        )


@dataclass(frozen=True)
class Augmentation:
    """The random choices for one sample, drawn before its size is known.

    Attributes:
        row, column: 64-bit draws for the position of the crop; None for a central crop.
        mirror: whether to flip left to right.
        resizing: what is drawn for the size of the image; None if it is not resized.
        shift: the colour shift of each channel, float32; None without a shift.
    """

    row: int | None
    column: int | None
    mirror: bool
    resizing: tuple[float, ...] | None = None
    shift: Floats | None = None


_NO_AUGMENTATION = Augmentation(None, None, mirror=False)


@dataclass(frozen=True)
class CropPlace:
    """The part of a rescaled image that becomes the sample, in pixels.

    Attributes:
        image: height and width of the image after rescaling.
        top, left: the upper left corner of the part.
        size: height and width of the part.
    """

    image: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]


class Transform:
    """The transform of a ``transform_param`` in one phase.

    A pixel becomes ``(pixel - mean) * scale`` in float32. ``crop_size`` takes the central window
    (offsets rounded down) in TEST, a random one in TRAIN. ``mirror`` flips each sample left to
    right with probability 1/2, in both phases. A mean file has the size of the whole record and is
    cropped at the same place.

    Extensions to Caffe: the image is resized before the crop (:class:`Rescale`, and the classes of
    ``fork_resizing.py``), and then the middle of the mean file is subtracted; in TRAIN a colour is
    added to all pixels (:class:`RandomShift`), before ``scale`` and without clipping;
    ``crop_mean_file`` is subtracted from the crop after flipping.

    Args:
        message: a TransformationParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        DataError: two kinds of mean are given, or an extension field has an invalid value.
        FileProblem, FormatError: the mean file cannot be read.
    """

    def __init__(self, message: Message, phase: str) -> None:
        self._crop = int(message.crop_size)
        self._random_crop = self._crop > 0 and phase == "TRAIN"
        self._mirror = bool(message.mirror)
        self._scale = np.float32(message.scale)
        self._planes = ChannelPlanes()
        self._force = (bool(message.force_color), bool(message.force_gray))
        self._warn_raw = any(self._force)
        self._mean_file = message.mean_file if message.HasField("mean_file") else ""
        self._mean_image: Floats | None = None
        self._mean_values = np.array(message.mean_value, np.float32)
        self._resizing = _resizing(message, phase)
        shift = RandomShift(message) if _shifts_colours(message) else None
        self._shift = shift if phase == "TRAIN" else None
        _check_means(message)
        if message.HasField("mean_file"):
            self._mean_image = self._read_mean_image()
        self._crop_mean = _crop_mean(message)
        self._arithmetic = CropArithmetic(self._subtracted_mean(), self._scale)

    def decode(self, datum: Message) -> NDArray[Any]:
        """The array of a record (channels x height x width); ``force_color`` etc. are applied."""
        if self._warn_raw and not datum.encoded:
            self._warn_raw = False
            log.warning("force_color and force_gray only for encoded datum")
        return decode_datum(datum, *self._force)

    def output_shape(self, record: Shape3, augmentation: Augmentation = _NO_AUGMENTATION) -> Shape3:
        """The shape after the transform of a sample of shape ``record`` (channels, height, width).

        ``augmentation`` is the sample's; it matters only if images are rescaled.

        Raises:
            DataError: the sample is smaller than the crop, or does not match the mean or the
                colour shift.
        """
        channels, height, width = record
        height, width = self._resized(height, width, augmentation)
        record = (channels, height, width)
        if self._crop and (height < self._crop or width < self._crop):
            raise DataError(
                f"it is {height}x{width} (height x width), smaller than crop_size {self._crop}; "
                "make the database again with larger images (convert-imageset --min-side "
                f"{suggested_side(self._crop)}), give an ImageData layer new_height and new_width, "
                "or use a smaller crop_size"
            )
        expected = record if self._resizing is None else (channels, self._crop, self._crop)
        if self._mean_image is not None and self._mean_image.shape != expected:
            raise DataError(
                f"it is {format_shape(record)} (channels x height x width), but {self._mean_file} "
                f"is {format_shape(self._mean_image.shape)}; the mean needs the size of the "
                "uncropped record"
            )
        if self._mean_values.size not in (0, 1, channels):
            raise DataError(
                f"it has {channels} channels, but transform_param has {self._mean_values.size} "
                "mean_value; give one, or one per channel (in B, G, R order)"
            )
        if self._crop_mean is not None and len(self._crop_mean) != channels:
            raise DataError(
                f"it has {channels} channels, but the mean in crop_mean_file has "
                f"{len(self._crop_mean)}; use force_color or force_gray, or a mean that fits"
            )
        if self._shift is not None and self._shift.channels != channels:
            raise DataError(
                f"it has {channels} channels, but each direction in colour_eigenvector has "
                f"{self._shift.channels} numbers; use force_color, or directions that fit"
            )
        return (channels, self._crop, self._crop) if self._crop else record

    def place(self, record: Shape3, augmentation: Augmentation) -> CropPlace:
        """Which part of a sample of shape ``record`` :meth:`apply` takes, before it is flipped."""
        _, height, width = record
        height, width = self._resized(height, width, augmentation)
        if not self._crop:
            return CropPlace((height, width), 0, 0, (height, width))
        top = _offset(height - self._crop, augmentation.row)
        left = _offset(width - self._crop, augmentation.column)
        return CropPlace((height, width), top, left, (self._crop, self._crop))

    def draw_augmentations(self, seed: int, ordinals: NDArray[np.int64]) -> list[Augmentation]:
        """The random choices for the samples ``ordinals`` of a run; a pure function."""
        nothing = [None] * len(ordinals)
        rows = draw(seed, ordinals, "crop row").tolist() if self._random_crop else nothing
        columns = draw(seed, ordinals, "crop column").tolist() if self._random_crop else nothing
        flips = pick(draw(seed, ordinals, "mirror"), 2 if self._mirror else 1)
        sizes = self._resizing.draw(seed, ordinals) if self._resizing else nothing
        shifts = self._shift.draw(seed, ordinals) if self._shift else nothing
        return [
            Augmentation(row, column, bool(flip), size, shift)
            for row, column, flip, size, shift in zip(
                rows, columns, flips, sizes, shifts, strict=True
            )
        ]

    def apply(self, pixels: NDArray[Any], augmentation: Augmentation, out: NDArray[Any]) -> None:
        """Transforms one array into ``out``; without rescaling only the crop is processed.

        A uint8 ``out`` gets the cropped and flipped pixels without arithmetic; see :meth:`crops`.

        Args:
            pixels: channels x height x width, uint8 or float32; uint8 if ``out`` is.
            augmentation: the random choices for this sample.
            out: float32 or uint8, of the shape given by :meth:`output_shape`.

        Raises:
            DataError: as :meth:`output_shape`, or the result does not have the shape of ``out``.
        """
        channels, height, width = pixels.shape
        shape = self.output_shape((channels, height, width), augmentation)
        if shape != out.shape:
            raise DataError(
                f"it is {format_shape(shape)} (channels x height x width), but the first record of "
                f"its batch makes it {format_shape(out.shape)}; use batch_size 1, one size for all "
                "images, or crop_size (and force_color where gray and colour are mixed)"
            )
        place = self.place((channels, height, width), augmentation)
        if self._resizing is not None and augmentation.resizing is not None:
            # The whole image, although a crop follows: warping the crop alone takes as long, and
            # OpenCV's warp has a precision of 1/32 pixel only.
            pixels = self._resizing.scale(pixels, *place.image)
        window = np.s_[
            :, place.top : place.top + place.size[0], place.left : place.left + place.size[1]
        ]
        if out.dtype == np.uint8:
            self._copy(pixels[window], augmentation.mirror, out)
            return
        corner = (place.top, place.left)
        crop = Crop(pixels[window], corner, augmentation.mirror, augmentation.shift)
        self._arithmetic.apply(crop, out)

    @property
    def can_defer_arithmetic(self) -> bool:
        """Whether the arithmetic does not depend on the crop's position, so it can follow later."""
        return self._mean_image is None

    def crops(
        self, pixels: NDArray[np.uint8], augmentations: Sequence[Augmentation]
    ) -> DeferredCrops:
        """Deferred crops of rows that :meth:`apply` has filled with bytes.

        Args:
            pixels: uint8, N x channels x height x width.
            augmentations: the random choices for the N samples.
        """
        mean = self._crop_mean
        if mean is None and self._mean_values.size:
            mean = self._mean_values.reshape(-1, 1, 1)
        shifts = [
            augmentation.shift for augmentation in augmentations if augmentation.shift is not None
        ]
        added = np.stack(shifts)[:, :, None, None] if shifts else None
        return DeferredCrops(pixels, mean, added, float(self._scale))

    def _resized(self, height: int, width: int, augmentation: Augmentation) -> tuple[int, int]:
        """The size of an image before it is cropped."""
        if self._resizing is None or augmentation.resizing is None:
            return height, width
        return self._resizing.size(height, width, augmentation.resizing)

    def _read_mean_image(self) -> Floats:
        """The mean file, or where images are resized its middle of the crop's size."""
        mean = read_mean(self._mean_file)
        if self._resizing is None:
            return mean
        top, left = ((extent - self._crop) // 2 for extent in mean.shape[1:])
        if not self._crop or min(top, left) < 0:
            raise DataError(
                f"transform_param: images are resized, but {self._mean_file} is "
                f"{format_shape(mean.shape)} (channels x height x width) and crop_size "
                f"{self._crop}; its middle of the crop's size is subtracted, so give a crop_size "
                "that fits, or mean_value"
            )
        return mean[:, top : top + self._crop, left : left + self._crop]

    def _subtracted_mean(self) -> CropMean | None:
        if self._mean_image is not None:
            # Of resized images the middle of the mean file, which fits every crop.
            return CropMean(self._mean_image, is_cut=self._resizing is None, is_flipped=True)
        if self._crop_mean is not None:
            return CropMean(self._crop_mean)
        return CropMean(self._mean_values) if self._mean_values.size else None

    def _copy(self, pixels: NDArray[np.uint8], mirror: bool, out: NDArray[np.uint8]) -> None:
        if is_interleaved(pixels) and is_interleaved(out):
            copy_interleaved(pixels.transpose(1, 2, 0), out.transpose(1, 2, 0), mirror)
            return
        for channel, plane in enumerate(self._planes.of(pixels, mirror)):
            np.copyto(out[channel], plane)


def _resizing(message: Message, phase: str) -> Resizing | None:
    """How images are resized before they are cropped."""
    own = message.img_rand_resize_lower or message.img_rand_resize_upper
    return resizing_of_fork(message) or (Rescale(message, phase) if own else None)


def _check_means(message: Message) -> None:
    if message.HasField("mean_file") and message.mean_value:
        raise DataError(
            f"transform_param: mean_file {message.mean_file!r} and mean_value are both given; "
            "remove one of them"
        )
    if message.crop_mean_file and (message.HasField("mean_file") or message.mean_value):
        other = "mean_file" if message.HasField("mean_file") else "mean_value"
        raise DataError(
            f"transform_param: crop_mean_file {message.crop_mean_file!r} and {other} are both "
            "given; remove one of them"
        )


def _crop_mean(message: Message) -> Floats | None:
    if not message.crop_mean_file:
        return None
    mean = read_mean(message.crop_mean_file)
    crop = message.crop_size
    if mean.shape[1:] != (crop, crop):
        raise DataError(
            f"transform_param: the mean in crop_mean_file {message.crop_mean_file!r} is "
            f"{format_shape(mean.shape)} (channels x height x width), but crop_size is {crop}; "
            "both must have one size (a mean of whole images is a mean_file)"
        )
    return mean


def _offset(margin: int, value: int | None) -> int:
    return margin // 2 if value is None else pick(value, margin + 1)


def _shifts_colours(message: Message) -> bool:
    """Whether colours are shifted.

    Raises:
        DataError: there are directions without ``colour_shift_std`` (0 disables the shift).
    """
    directions = message.colour_eigenvalue or message.colour_eigenvector
    if directions and not message.HasField("colour_shift_std"):
        raise DataError(
            "transform_param: colour_eigenvalue and colour_eigenvector shift colours only with "
            "colour_shift_std; give it, 0.1 in the paper"
        )
    return bool(message.colour_shift_std)
