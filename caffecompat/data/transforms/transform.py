"""Crop, mirror, mean and scale: what stands between a record and a row of a batch.

Source of the semantics: data_transformer.cpp.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.advice import suggested_side
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.codec.images import scale_channels, split_channels
from caffecompat.data.counter_rng import draw, pick
from caffecompat.data.transforms.color_pca import RandomShift
from caffecompat.data.transforms.deferred_crops import Crops
from caffecompat.data.transforms.rescale import Rescale
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message
from caffecompat.weights.mean import read_mean

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
    """For those who do without :class:`Transform`: refuse what they would have to ignore.

    Args:
        message: a TransformationParameter.
        who: the layer type, for the message.

    Raises:
        DataError: a field of :data:`EXTENSIONS` is set.
    """
    found = [name for name in EXTENSIONS if getattr(message, name)]
    if found:
        raise DataError(
            f"transform_param: {who} cannot do what {', '.join(found)} asks for; remove it, or use "
            "a Data or ImageData layer"
        )


@dataclass(frozen=True)
class Choice:
    """What chance has decided for one sample, before the size of its record is known.

    ``row`` and ``column`` are 64-bit draws for the crop, None where the crop is central.
    ``side`` is the smallest side after rescaling, in pixels, None without rescaling. ``shift`` has
    what is added to each channel, float32, or is None.
    """

    row: int | None
    column: int | None
    mirror: bool
    side: int | None = None
    shift: Floats | None = None


_NO_CHOICE = Choice(None, None, mirror=False)


class Transform:
    """The transformation that a ``transform_param`` describes, in one phase.

    A pixel becomes ``(pixel - mean) * scale`` in float32. With ``crop_size`` a window is taken:
    the central one (offsets rounded down) in TEST, a random one in TRAIN. With ``mirror`` every
    other sample, by chance, is flipped left to right, in both phases. A mean file has the size
    of the whole record and is cut at the place of the window.

    Beyond Caffe: before the crop the image is rescaled (:class:`Rescale`); in TRAIN one colour is
    added to all pixels (:class:`RandomShift`), before ``scale`` and without clipping; a
    ``crop_mean_file`` is subtracted from the crop as it enters the net, flipped or not.

    Args:
        message: a TransformationParameter.
        phase: ``"TRAIN"`` or ``"TEST"``.

    Raises:
        DataError: two kinds of mean are given, or an extension field does not make sense.
        FileProblem, FormatError: the mean file cannot be read.
    """

    def __init__(self, message: Message, phase: str) -> None:
        self._crop = int(message.crop_size)
        self._random_crop = self._crop > 0 and phase == "TRAIN"
        self._mirror = bool(message.mirror)
        self._scale = np.float32(message.scale)
        self._scratch = threading.local()
        self._force = (bool(message.force_color), bool(message.force_gray))
        self._warn_raw = any(self._force)
        self._mean_file = message.mean_file if message.HasField("mean_file") else ""
        self._mean_image: Floats | None = None
        self._mean_values = np.array(message.mean_value, np.float32)
        resized = message.img_rand_resize_lower or message.img_rand_resize_upper
        self._rescale = Rescale(message, phase) if resized else None
        shift = RandomShift(message) if _shifts_colours(message) else None
        self._shift = shift if phase == "TRAIN" else None
        _check_means(message)
        if message.HasField("mean_file"):
            self._mean_image = read_mean(self._mean_file)
        self._crop_mean = _crop_mean(message)

    def decode(self, datum: Message) -> NDArray[Any]:
        """The array of a record (channels x height x width), with the colour that is forced."""
        if self._warn_raw and not datum.encoded:
            self._warn_raw = False
            log.warning("force_color and force_gray only for encoded datum")
        return decode_datum(datum, *self._force)

    def output_shape(self, record: Shape3, choice: Choice = _NO_CHOICE) -> Shape3:
        """The shape that a record of ``record`` (channels, height, width) ends with.

        ``choice`` is what :meth:`choose` gave for it; it matters where images are rescaled.

        Raises:
            DataError: the record is smaller than the crop, or the mean or the colour shift does
                not fit it.
        """
        channels, height, width = record
        if self._rescale is not None and choice.side is not None:
            height, width = self._rescale.size(height, width, choice.side)
            record = (channels, height, width)
        if self._crop and (height < self._crop or width < self._crop):
            raise DataError(
                f"it is {height}x{width} (height x width), smaller than crop_size {self._crop}; "
                "make the database again with larger images (convert-imageset --min-side "
                f"{suggested_side(self._crop)}), give an ImageData layer new_height and new_width, "
                "or use a smaller crop_size"
            )
        if self._mean_image is not None and self._mean_image.shape != record:
            raise DataError(
                f"it is {_by(record)} (channels x height x width), but {self._mean_file} is "
                f"{_by(self._mean_image.shape)}; the mean needs the size of the uncropped record"
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

    def choose(self, seed: int, ordinals: NDArray[np.int64]) -> list[Choice]:
        """What chance decides for the samples ``ordinals`` of a run; pure."""
        nothing = [None] * len(ordinals)
        rows = draw(seed, ordinals, "crop row").tolist() if self._random_crop else nothing
        columns = draw(seed, ordinals, "crop column").tolist() if self._random_crop else nothing
        flips = pick(draw(seed, ordinals, "mirror"), 2 if self._mirror else 1)
        sides = self._rescale.choose(seed, ordinals) if self._rescale else nothing
        shifts = self._shift.draw(seed, ordinals) if self._shift else nothing
        return [
            Choice(row, column, bool(flip), side, shift)
            for row, column, flip, side, shift in zip(
                rows, columns, flips, sides, shifts, strict=True
            )
        ]

    def apply(self, pixels: NDArray[Any], choice: Choice, out: NDArray[Any]) -> None:
        """Transform one array into ``out``; only the pixels of the window are touched.

        Into an ``out`` of bytes go the pixels of the window as they are; see :meth:`crops`.

        Args:
            pixels: channels x height x width, uint8 or float32; uint8 if ``out`` is.
            choice: what :meth:`choose` gave for this sample.
            out: float32 or uint8, of the shape that :meth:`output_shape` names.

        Raises:
            DataError: as :meth:`output_shape`, or the result has not the shape of ``out``.
        """
        channels, height, width = pixels.shape
        shape = self.output_shape((channels, height, width), choice)
        if shape != out.shape:
            raise DataError(
                f"it is {_by(shape)} (channels x height x width), but the first record of its "
                f"batch makes it {_by(out.shape)}; use batch_size 1, one size for all images, or "
                "crop_size (and force_color where gray and colour are mixed)"
            )
        if self._rescale is not None and choice.side is not None:
            height, width = self._rescale.size(height, width, choice.side)
            # All of it, though a crop follows: a warp of the window alone takes about as long, and
            # places pixels only to 1/32.
            pixels = scale_channels(pixels, height, width)
        top = left = 0
        if self._crop:
            top = _offset(height - self._crop, choice.row)
            left = _offset(width - self._crop, choice.column)
        window = np.s_[:, top : top + shape[1], left : left + shape[2]]
        if out.dtype == np.uint8:
            for channel, plane in enumerate(self._planes(pixels[window], choice.mirror)):
                np.copyto(out[channel], plane)
            return
        self._subtract_mean(pixels[window], window, choice, out)
        if self._scale != 1:
            np.multiply(out, self._scale, out=out)

    @property
    def can_wait(self) -> bool:
        """Whether the arithmetic is the same at each place of a record, and can follow the crop."""
        return self._mean_image is None

    def crops(self, pixels: NDArray[np.uint8], choices: Sequence[Choice]) -> Crops:
        """Rows that :meth:`apply` has filled with bytes, with the arithmetic that they wait for.

        Args:
            pixels: N x channels x height x width.
            choices: of the N samples.
        """
        mean = self._crop_mean
        if mean is None and self._mean_values.size:
            mean = self._mean_values.reshape(-1, 1, 1)
        shifts = [choice.shift for choice in choices if choice.shift is not None]
        added = np.stack(shifts)[:, :, None, None] if shifts else None
        return Crops(pixels, mean, added, float(self._scale))

    def _subtract_mean(
        self, pixels: NDArray[Any], window: tuple[slice, ...], choice: Choice, out: Floats
    ) -> None:
        mean: Any = self._mean_values
        if self._mean_image is not None:
            mean = self._mean_image[window][:, :, :: -1 if choice.mirror else 1]
        elif self._crop_mean is not None:
            mean = self._crop_mean
        # Plane by plane, so that the second step finds in the cache what the first has written.
        for channel, plane in enumerate(self._planes(pixels, choice.mirror)):
            target = out[channel]
            np.copyto(target, plane)
            if len(mean):
                np.subtract(target, mean[channel % len(mean)], out=target)
            if choice.shift is not None:
                np.add(target, choice.shift[channel], out=target)

    def _planes(self, pixels: NDArray[Any], mirror: bool) -> Sequence[NDArray[Any]]:
        """The channels one by one, flipped if asked; valid until this thread's next call."""
        interleaved = pixels.strides[0] == 1 and 1 < len(pixels) <= 4
        if pixels.dtype != np.uint8 or not interleaved:
            return list(pixels[:, :, ::-1] if mirror else pixels)
        shape, planes = getattr(self._scratch, "planes", (None, []))
        if shape != pixels.shape:
            planes = _scattered_planes(*pixels.shape)
            self._scratch.planes = (pixels.shape, planes)
        return split_channels(pixels.transpose(1, 2, 0), planes, mirror)


def _check_means(message: Message) -> None:
    if message.HasField("mean_file") and message.mean_value:
        raise DataError(
            f"transform_param: mean_file {message.mean_file!r} and mean_value are both given; "
            "remove one of them"
        )
    if message.HasField("mean_file") and message.img_rand_resize_upper:
        raise DataError(
            f"transform_param: mean_file {message.mean_file!r} has one size, but img_rand_resize "
            "makes images of many; use mean_value or crop_mean_file instead"
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
            f"{_by(mean.shape)} (channels x height x width), but crop_size is {crop}; both must "
            "have one size (a mean of whole images is a mean_file)"
        )
    return mean


def _scattered_planes(count: int, height: int, width: int) -> list[NDArray[np.uint8]]:
    """Arrays that begin at different remainders of any power of two.

    With equal remainders OpenCV's split mixes two kinds of stores in one cache line, which can
    make it twenty times slower.
    """
    size = height * width
    memory = np.empty(count * (size + 64), np.uint8)
    starts = [-memory.ctypes.data % 64 + i * -(-size // 64) * 64 + i for i in range(count)]
    return [memory[start : start + size].reshape(height, width) for start in starts]


def _offset(freedom: int, chance: int | None) -> int:
    return freedom // 2 if chance is None else pick(chance, freedom + 1)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _shifts_colours(message: Message) -> bool:
    """Whether colours are shifted; directions without a ``colour_shift_std`` are a mistake.

    Raises:
        DataError: there are directions, but no deviation (0 switches the shift off).
    """
    directions = message.colour_eigenvalue or message.colour_eigenvector
    if directions and not message.HasField("colour_shift_std"):
        raise DataError(
            "transform_param: colour_eigenvalue and colour_eigenvector shift colours only with "
            "colour_shift_std; give it, 0.1 in the paper"
        )
    return bool(message.colour_shift_std)
