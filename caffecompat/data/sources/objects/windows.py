"""The sample source of the WindowData layer: windows of images for fine-tuning R-CNN.

Source of the semantics: window_data_layer.cpp.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.images import Pixels, decode_file, read_image_file, resize_image
from caffecompat.data.counter_rng import pick_one
from caffecompat.data.rounding import round_away
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.sources.objects.marked_list import read_marked_list
from caffecompat.data.transforms.transform import refuse_extensions
from caffecompat.errors import DataError
from caffecompat.input_files import ClaimedBytes
from caffecompat.proto.schema import Message
from caffecompat.reporting.terminal import short_name
from caffecompat.reporting.units import format_shape
from caffecompat.weights.mean_file import read_mean

Floats = NDArray[np.float32]

_FORM = (
    "expected the file name, channels, height, width, the number of windows, and six numbers per "
    "window"
)
# Bytes of a word that are parsed as a number.
_MAX_WORD_BYTES = 40
# A lower bound of the memory of a window.
_BYTES_PER_WINDOW = 60


@dataclass(frozen=True, slots=True)
class Window:
    """A box of an image (inclusive corners), its class, and its overlap with an object."""

    image: bytes
    label: int
    overlap: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Placement:
    """The part of the image that a window uses, and its size and position in the crop.

    All in pixels. ``right`` and ``bottom`` are inclusive. ``width`` and ``height`` are the size of
    the resized part, ``pad_left`` and ``pad_top`` its distances from the edges of the crop.
    """

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int
    pad_left: int = 0
    pad_top: int = 0


def read_windows(path: str, max_bytes: int | None = None) -> list[Window]:
    """All windows of a window file.

    For each image it has ``# index``, the file name (without blanks), channels, height, width,
    the number of windows, and for each window: label, overlap, x1, y1, x2, y2.

    Raises:
        FileProblem, FormatError: the file cannot be read, or has more than ``max_bytes`` (512 MiB).
        DataError: it does not have this format; the message names the image.
    """
    windows: list[Window] = []

    def read_image(image: bytes, words: Iterator[bytes], claimed: ClaimedBytes) -> None:
        _, _, _, count = (_whole_number(next(words)) for _ in range(4))
        for _ in range(count):
            label, overlap = _whole_number(next(words)), float(next(words)[:_MAX_WORD_BYTES])
            x1, y1, x2, y2 = (_whole_number(next(words)) for _ in range(4))
            windows.append(Window(image, label, overlap, (x1, y1, x2, y2)))
            claimed.add(_BYTES_PER_WINDOW, "its windows")

    read_marked_list(path, read_image, "expected six numbers per window", _FORM, max_bytes)
    return windows


class WindowSamples(Samples):
    """Randomly drawn windows; each batch has background windows first, then foreground windows.

    A window with an overlap of at least ``fg_threshold`` is foreground. One with less than
    ``bg_threshold`` is background, with label 0. Others are not used. Pixels are already resized,
    flipped, mean-subtracted and scaled; pixels outside the image are 0. Random choices depend only
    on (seed, ordinal).

    Raises:
        FileProblem, FormatError, DataError: as
            :func:`caffecompat.data.loader.open_readers.open_window_reader`.
    """

    def __init__(self, layer: Message, seed: int, max_bytes: int | None = None) -> None:
        p, transform = layer.window_data_param, layer.transform_param
        super().__init__(p.source)
        self._crop = int(transform.crop_size)
        refuse_extensions(transform, layer.type)
        self._settings(p, transform)
        self._seed = seed
        self._batch = int(p.batch_size)
        self._background = self._batch - int(np.float32(self._batch) * np.float32(p.fg_fraction))
        self._root = os.fsencode(p.root_folder)
        self._context = int(p.context_pad)
        self._square = p.crop_mode == "square"
        self._scale = np.float32(p.scale)
        self._mirror = bool(transform.mirror)
        self._means = np.array(transform.mean_value, np.float32)
        self._mean = read_mean(transform.mean_file) if transform.HasField("mean_file") else None
        self._cache: dict[bytes, bytes] | None = {} if p.cache_images else None
        self._caching = threading.Lock()
        self._sort(read_windows(p.source, max_bytes), p)

    def _settings(self, p: Message, transform: Message) -> None:
        if self._crop <= 0:
            raise DataError("transform_param: crop_size is 0; WindowData needs one")
        if p.crop_mode not in ("warp", "square"):
            raise DataError(
                f"window_data_param: crop_mode is {p.crop_mode!r}, expected 'warp' or 'square'"
            )
        if 2 * p.context_pad >= self._crop:
            raise DataError(
                f"window_data_param: context_pad {p.context_pad} on both sides leaves nothing of "
                f"crop_size {self._crop}; make it smaller"
            )
        if transform.mean_value and transform.HasField("mean_file"):
            raise DataError("transform_param: mean_file and mean_value are both given; remove one")
        if len(transform.mean_value) not in (0, 1, 3):
            raise DataError(
                f"transform_param: {len(transform.mean_value)} mean_value for images of 3 "
                "channels; give one, or one per channel (in B, G, R order)"
            )

    def _sort(self, windows: list[Window], p: Message) -> None:
        fg, bg = np.float32(p.fg_threshold), np.float32(p.bg_threshold)
        overlaps = [np.float32(window.overlap) for window in windows]
        foreground = [w for w, overlap in zip(windows, overlaps, strict=True) if overlap >= fg]
        background = [w for w, overlap in zip(windows, overlaps, strict=True) if overlap < bg]
        background = [Window(w.image, 0, 0.0, w.box) for w in background if w.overlap < fg]
        for window in foreground:
            if window.label <= 0:
                raise DataError(
                    f"{self.path}: a window of {_readable(window.image)!r} overlaps an object by "
                    f"{window.overlap:g}, but its label is {window.label}, expected 1 or more"
                )
        if not foreground or not background:
            raise DataError(
                f"{self.path}: it has {len(foreground)} foreground windows (overlap of "
                f"{fg:g} or more) and {len(background)} background windows (below {bg:g}); "
                "both kinds are needed"
            )
        self._windows = background + foreground
        self._counts = (len(background), len(foreground))

    def __len__(self) -> int:
        return len(self._windows)

    def fetch(self, ordinal: int) -> RawSample:
        """Draws the window of sample ``ordinal``; foreground positions follow background ones."""
        background, foreground = self._counts
        if ordinal % self._batch < self._background:
            position = pick_one(self._seed, ordinal, "window", background)
        else:
            position = background + pick_one(self._seed, ordinal, "window", foreground)
        return RawSample(ordinal, position, self._windows[position].image)

    def decode(self, raw: RawSample) -> Sample:
        window = self._windows[raw.position]
        mirror = self._mirror and bool(pick_one(self._seed, raw.ordinal, "mirror", 2))
        image = decode_file(self._read(raw.key), "color")
        if image is None:
            raise DataError("it is not an image that OpenCV can decode")
        place = place_window(
            window.box,
            image.shape[:2],
            crop=self._crop,
            context=self._context,
            square=self._square,
            mirror=mirror,
        )
        out = np.zeros((3, self._crop, self._crop), np.float32)
        self._paste(image, place, mirror, out)
        return Sample(out, window.label)

    def close(self) -> None:
        """Does nothing: no file is open."""

    def locate(self, raw: RawSample) -> str:
        name = short_name(_readable(self._root + raw.key))
        return f"{self.path}: window {raw.position} (image {name!r})"

    def _paste(self, image: Pixels, place: Placement, mirror: bool, out: Floats) -> None:
        part = image[place.top : place.bottom + 1, place.left : place.right + 1]
        resized = resize_image(part, place.width, place.height).transpose(2, 0, 1)
        target = np.s_[
            :,
            place.pad_top : place.pad_top + place.height,
            place.pad_left : place.pad_left + place.width,
        ]
        values: Floats = resized[:, :, :: -1 if mirror else 1].astype(np.float32)
        if self._mean is not None:
            # As in Caffe, both offsets are computed from the mean's width.
            middle = (self._mean.shape[2] - self._crop) // 2
            square = self._mean[:, middle : middle + self._crop, middle : middle + self._crop]
            if square.shape != out.shape:
                raise DataError(
                    f"the mean is {format_shape(self._mean.shape)} (channels x height x "
                    f"width), too small for crop_size {self._crop}"
                )
            values -= square[target]
        elif len(self._means):
            values -= self._means[:, None, None]
        out[target] = values * self._scale

    def _read(self, name: bytes) -> bytes:
        if self._cache is not None and name in self._cache:
            return self._cache[name]
        data = read_image_file(self._root + name)
        if self._cache is not None:
            with self._caching:
                self._cache[name] = data
        return data


def place_window(
    box: tuple[int, int, int, int],
    image: tuple[int, int],
    crop: int,
    context: int,
    square: bool,
    mirror: bool,
) -> Placement:
    """The placement of a box in a square crop of ``crop`` pixels.

    Without ``context`` and ``square`` the box is stretched to the crop. Otherwise the box is first
    enlarged: to a square if ``square`` is set, and so that ``context`` pixels of the crop surround
    it on each side. Pixels of the crop that would then lie outside the image are padding.

    Args:
        box: x1, y1, x2, y2, inclusive.
        image: height and width.
        crop: side of the crop, in pixels.
        context: pixels of context on each side of the crop.
        square: whether to enlarge the box to a square.
        mirror: whether the resized part will be flipped; the padding is flipped, too.

    Raises:
        DataError: the box does not lie in the image.
    """
    x1, y1, x2, y2 = box
    if x2 < x1 or y2 < y1:
        _check_inside(box, box, image)
    if not (context or square):
        _check_inside(box, box, image)
        return Placement(x1, y1, x2, y2, crop, crop)
    grow = np.float32(crop) / np.float32(crop - 2 * context)
    half_width, half_height = np.float32((x2 - x1 + 1) / 2), np.float32((y2 - y1 + 1) / 2)
    middle_x, middle_y = x1 + half_width, y1 + half_height
    if square:
        half_width = half_height = max(half_width, half_height)
    left, right = round_away(middle_x - half_width * grow), round_away(middle_x + half_width * grow)
    top, bottom = (
        round_away(middle_y - half_height * grow),
        round_away(middle_y + half_height * grow),
    )
    outside = (max(0, -left), max(0, right - image[1] + 1))
    above, below = max(0, -top), max(0, bottom - image[0] + 1)
    scale_x = np.float32(crop) / np.float32(right - left + 1)
    scale_y = np.float32(crop) / np.float32(bottom - top + 1)
    inside = (left + outside[0], top + above, right - outside[1], bottom - below)
    _check_inside(box, inside, image)
    pad_left, pad_right = (round_away(np.float32(extent) * scale_x) for extent in outside)
    pad_top = round_away(np.float32(above) * scale_y)
    width = round_away(np.float32(inside[2] - inside[0] + 1) * scale_x)
    height = round_away(np.float32(inside[3] - inside[1] + 1) * scale_y)
    # Rounding may have made the sum of the parts larger than the crop.
    pad_left = pad_right if mirror else pad_left
    width = max(min(width, crop - pad_left), 1)
    height = max(min(height, crop - pad_top), 1)
    return Placement(*inside, width, height, pad_left, pad_top)


def _check_inside(
    box: tuple[int, int, int, int], part: tuple[int, int, int, int], image: tuple[int, int]
) -> None:
    x1, y1, x2, y2 = part
    if not (0 <= x1 <= x2 < image[1] and 0 <= y1 <= y2 < image[0]):
        raise DataError(
            f"its window {box} (x1, y1, x2, y2) does not lie in the image, which is "
            f"{image[0]}x{image[1]} (height x width)"
        )


def _whole_number(word: bytes) -> int:
    """A 32-bit integer, as in Caffe.

    Raises:
        ValueError: it is not a number, or does not fit 32 bits.
    """
    number = int(word[:_MAX_WORD_BYTES])
    if not -(1 << 31) <= number < 1 << 31:
        raise ValueError(f"{number} does not fit 32 bits")
    return number


def _readable(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
