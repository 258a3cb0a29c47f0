"""Clips of videos whose frames are image files, and the crops of the action recognition fork.

A line of a list is a folder of frames, the number of its frames and a label, separated by white
space. Source of the semantics: video_data_layer.cpp and data_transformer.cpp of temporal segment
networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import (
    Colour,
    Pixels,
    read_pixels,
    resize_image,
)
from caffecompat.data.counter_rng import pick_one
from caffecompat.data.sources.base import RawSample, Sample
from caffecompat.data.sources.image_lists.image_list import Entry, read_names
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name, shorten
from caffecompat.reporting.units import format_shape

Floats = NDArray[np.float32]

DEFAULT_RATIOS = (1.0, 0.875, 0.75, 0.66)
# A side of a scaled crop that is nearly crop_size becomes crop_size.
_NEAR = 3
_PATTERN = re.compile(r"[^%]*(%c)?[^%]*%0?[0-9]{0,2}d[^%]*")
_CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
_MORE_CORNERS = ((0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3))


@dataclass(frozen=True)
class FrameSettings:
    """Which frames of a video become a sample, and how.

    Attributes:
        segments: parts of equal length; a clip is taken from each.
        length: successive frames of a clip.
        pattern: the name of a frame, with ``%d`` for its number from 1 on; where ``flow``, also
            with ``%c`` for the axis, x or y.
        flow: a frame is two gray images, the flow along x and along y.
        colour: a frame is an image of three channels (B, G, R), else a gray one.
        length_first: in a clip, all frames of a channel are next to each other, instead of all
            channels of a frame.
        size: height and width that frames are resized to; None to keep the size.
        crop: the side of the crop; 0 for none.
        train: clips and crops are drawn, instead of the middle.
        mirror: half of the samples are flipped left to right.
        inverts: horizontal flow becomes 255 minus itself where it is flipped.
        ratios: sides of crops in parts of the smallest side, which are resized to ``crop``; empty
            for crops of size ``crop``.
        max_distort: how far apart in ``ratios`` height and width may be.
        corners: crops are at the corners or in the middle; 2: at eight more places.
        mean: subtracted from the channels, over and over.
        mean_image: subtracted from the uncropped clip; None for none.
        scale: the factor after that.
    """

    segments: int
    length: int
    pattern: str
    flow: bool = False
    colour: bool = True
    length_first: bool = False
    size: tuple[int, int] | None = None
    crop: int = 0
    train: bool = False
    mirror: bool = False
    inverts: bool = False
    ratios: tuple[float, ...] = ()
    max_distort: int = 1
    corners: int = 0
    mean: tuple[float, ...] = ()
    mean_image: Floats | None = None
    scale: float = 1.0

    @property
    def channels(self) -> int:
        """The channels of a sample."""
        per_frame = 2 if self.flow else 3 if self.colour else 1
        return self.segments * self.length * per_frame

    def names(self, number: int) -> list[str]:
        """The files of frame ``number``."""
        if self.flow:
            return [self.pattern % (axis, number) for axis in "xy"]
        return [self.pattern % number]


def why_no_pattern(pattern: str, flow: bool) -> str | None:
    """What is wrong with the name of a frame; None if nothing is."""
    found = _PATTERN.fullmatch(pattern)
    if found is not None and bool(found[1]) == flow:
        return None
    wanted = "%c for x and y, and then %04d or the like" if flow else "one %04d or the like"
    return f"name_pattern is {shorten(pattern, 60)!r}, expected {wanted}"


def crop_sizes(
    height: int, width: int, crop: int, ratios: tuple[float, ...], max_distort: int
) -> list[tuple[int, int]]:
    """Heights and widths of the crops that are resized to ``crop``, for images of one size."""
    base = min(height, width)
    # The fork's ratios are float32, and so are its products.
    sides = [int(np.float32(base) * np.float32(ratio)) for ratio in ratios]
    sides = [crop if abs(side - crop) < _NEAR else side for side in sides]
    numbers = range(len(sides))
    return [(sides[h], sides[w]) for h, w in product(numbers, numbers) if abs(h - w) <= max_distort]


def corner_places(row_room: int, column_room: int, more: bool) -> list[tuple[int, int]]:
    """Rows and columns of crops at the corners and in the middle, and at eight more places."""
    corners = (*_CORNERS, *_MORE_CORNERS) if more else _CORNERS
    return [(row_room // 4 * row, column_room // 4 * column) for row, column in corners]


@dataclass(frozen=True)
class Video:
    """A line of a list: the folder of frames, how many there are, and the label."""

    folder: bytes
    frames: int
    label: int


def read_videos(path: str, max_bytes: int | None = None) -> list[Video]:
    """The videos of a list.

    Raises:
        FileProblem, FormatError: it cannot be read.
        DataError: a line does not name a folder, a number of frames and a label.
    """
    videos = []
    for number, entry in enumerate(read_names(path, max_bytes), 1):
        words = entry.name.rsplit(None, 2)
        if not words:
            continue
        if len(words) < 3 or not all(word.isdigit() and len(word) < 10 for word in words[1:]):
            shown = shorten(entry.name.decode(errors="backslashreplace"), 60)
            raise DataError(
                f"{path}: line {number} is {shown!r}; expected a folder of frames, the number of "
                "its frames and a label, separated by spaces"
            )
        videos.append(Video(words[0], int(words[1]), int(words[2])))
    return videos


class FrameSamples(ImageSamples):
    """The clips of a list of videos, ready for the net.

    Clips, crops and flips of a sample are a pure function of (seed, number of the sample).

    Args:
        path: the list, for messages.
        videos: its videos.
        settings: what happens to them.
        taken: how they are taken.
    """

    def __init__(
        self, path: str, videos: list[Video], settings: FrameSettings, taken: ListSettings
    ) -> None:
        entries = [Entry(video.folder, video.label) for video in videos]
        super().__init__(path, entries, taken)
        self._videos = videos
        self._settings = settings

    def decode(self, raw: RawSample) -> Sample:
        video, s = self._videos[raw.position], self._settings
        clips = [
            self._clip(video.folder, start + 1) for start in self._starts(video.frames, raw.ordinal)
        ]
        for clip in clips[1:]:
            if clip.shape != clips[0].shape:
                raise DataError(
                    f"its frames have several sizes, {format_shape(clips[0].shape[2:])} and "
                    f"{format_shape(clip.shape[2:])}; give new_height and new_width"
                )
        frames = np.stack(clips)
        if s.length_first:
            frames = frames.transpose(0, 2, 1, 3, 4)
        pixels = frames.reshape(-1, *frames.shape[3:])
        return Sample(self._finished(pixels, raw.ordinal), video.label)

    def locate(self, raw: RawSample) -> str:
        name = short_name(raw.key.decode(errors="backslashreplace"))
        return f"{self.path}: video {raw.position + 1} (folder {name!r})"

    def _drawn(self, ordinal: int, purpose: str, limit: int) -> int:
        return pick_one(self._taken.seed, ordinal, purpose, limit)

    def _starts(self, frames: int, ordinal: int) -> list[int]:
        """How many frames are before the clip of each segment."""
        s = self._settings
        each = frames // s.segments
        room = each - s.length + 1
        if room < 1:
            return [0] * s.segments
        places = range(s.segments)
        if s.train:
            return [self._drawn(ordinal, f"segment {i}", room) + i * each for i in places]
        return [room // 2 + i * each for i in places]

    def _clip(self, folder: bytes, first: int) -> Pixels:
        """The clip from frame ``first`` on, length x channels of a frame x height x width."""
        s = self._settings
        frames: list[Pixels] = []
        for number in range(first, first + s.length):
            frame = [self._image(folder, name) for name in s.names(number)]
            frames.append(np.concatenate(frame) if s.flow else frame[0])
            if frames[-1].shape != frames[0].shape:
                raise DataError("its frames have several sizes; give new_height and new_width")
        return np.stack(frames)

    def _image(self, folder: bytes, name: str) -> Pixels:
        try:
            colour: Colour = "gray" if self._settings.flow or not self._settings.colour else "color"
            pixels = read_pixels(folder + b"/" + name.encode(), colour)
        except DataError as error:
            raise DataError(f"frame {short_name(name)!r}: {error}") from error
        if self._settings.size is not None:
            height, width = self._settings.size
            pixels = resize_image(pixels, width=width, height=height)
        return planes(pixels)

    def _finished(self, pixels: Pixels, ordinal: int) -> Floats:
        """A clip after crop, flip, mean and scale."""
        s = self._settings
        if len(s.mean) and len(pixels) % len(s.mean) and len(s.mean) != 1:
            raise DataError(
                f"it has {len(pixels)} channels, but transform_param has {len(s.mean)} mean_value; "
                "give one, one per channel, or a number that divides the channels"
            )
        if s.mean_image is not None and s.mean_image.shape != pixels.shape:
            raise DataError(
                f"it is {format_shape(pixels.shape)} (channels x height x width), but the mean in "
                f"mean_file is {format_shape(s.mean_image.shape)}; both must have one size"
            )
        cropped, mean_image = self._cropped(pixels, s.mean_image, ordinal)
        values = cropped.astype(np.float32)
        if s.mirror and self._drawn(ordinal, "mirror", 2):
            values = values[:, :, ::-1]
            mean_image = None if mean_image is None else mean_image[:, :, ::-1]
            if s.inverts:
                values[::2] = 255 - values[::2]
        if mean_image is not None:
            values = values - mean_image
        elif len(s.mean):
            mean = np.resize(np.array(s.mean, np.float32), len(values))
            values = values - mean[:, None, None]
        return np.ascontiguousarray(values * np.float32(s.scale))

    def _cropped(
        self, pixels: Pixels, mean: Floats | None, ordinal: int
    ) -> tuple[Pixels, Floats | None]:
        s = self._settings
        if not s.crop:
            return pixels, mean
        height, width = pixels.shape[1:]
        if min(height, width) < s.crop:
            raise DataError(
                f"it is {height}x{width} (height x width), smaller than crop_size {s.crop}; give "
                "new_height and new_width, or use a smaller crop_size"
            )
        rows, columns = s.crop, s.crop
        if s.train and s.ratios:
            sizes = crop_sizes(height, width, s.crop, s.ratios, s.max_distort)
            rows, columns = sizes[self._drawn(ordinal, "crop size", len(sizes))]
        top, left = self._place(height - rows, width - columns, ordinal)
        window = np.s_[:, top : top + rows, left : left + columns]
        # The fork takes the mean of the upper left corner for crops in several sizes.
        at = np.s_[:, : s.crop, : s.crop] if s.ratios else window
        cut = pixels[window]
        if (rows, columns) != (s.crop, s.crop):
            cut = np.stack([resize_image(plane, width=s.crop, height=s.crop) for plane in cut])
        return cut, None if mean is None else mean[at]

    def _place(self, row_room: int, column_room: int, ordinal: int) -> tuple[int, int]:
        """The row and the column where the crop begins."""
        s = self._settings
        if not s.train:
            return row_room // 2, column_room // 2
        if s.corners:
            places = corner_places(row_room, column_room, s.corners > 1)
            return places[self._drawn(ordinal, "crop place", len(places))]
        row = self._drawn(ordinal, "crop row", row_room + 1)
        return row, self._drawn(ordinal, "crop column", column_room + 1)
