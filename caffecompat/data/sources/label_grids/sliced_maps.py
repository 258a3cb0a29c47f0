"""Images or arrays with label maps of which a regular grid of pixels counts.

Two lists, one of images or arrays and one of label images, have a name for each other, separated by
white space. Source of the semantics: image_label_data_layer.cpp and bin_label_data_layer.cpp of the
Caffe of Yu and Koltun's dilated convolutions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import read_image_file, read_pixels, scale_image
from caffecompat.data.counter_rng import pick_one
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.base import RawSample, Sample
from caffecompat.data.sources.image_lists.image_list import Entry, read_names
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.data.sources.label_grids.label_maps import (
    LabelMapSettings,
    MapList,
    MapSample,
    MapSamples,
)
from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import shorten

# The label of what lies outside of a label image.
OUTSIDE = 255
# OpenCV's code for one float32 per element.
_FLOAT32 = 5

Pair = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The places ``offset + stride * n`` for n below ``extent``, along height and width."""

    offset: Pair
    stride: Pair
    extent: Pair

    @property
    def end(self) -> Pair:
        """The smallest height and width that hold the grid."""
        high, wide = (
            offset + stride * (extent - 1) + 1
            for offset, stride, extent in zip(self.offset, self.stride, self.extent, strict=True)
        )
        return high, wide

    def of(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """The values (..., height, width) at these places; OUTSIDE where there are none."""
        taken = np.full((*values.shape[:-2], *self.extent), OUTSIDE, np.float32)
        rows, columns = (
            places[places < size]
            for places, size in zip(map(self._places, (0, 1)), values.shape[-2:], strict=True)
        )
        found = values[..., rows[:, None], columns]
        taken[..., : len(rows), : len(columns)] = found
        return taken

    def _places(self, axis: int) -> NDArray[np.intp]:
        return self.offset[axis] + self.stride[axis] * np.arange(self.extent[axis])


@dataclass(frozen=True)
class SliceSettings:
    """What happens to an image and its label map before crop and flip, and to the map after.

    Attributes:
        crop: the side of the crop; smaller images get a border.
        grid: which pixels of the cropped map are labels; its offset is also the width of a border
            around each image.
        reflects: borders of images mirror the image; else they are 0.
        scales: the smallest and the largest factor of the random size of images; None for none.
    """

    crop: int
    grid: Grid
    reflects: bool = True
    scales: tuple[float, float] | None = None


def read_two_lists(
    first: str, second: str, folders: tuple[str, str], most: int | None = None
) -> MapList:
    """The names of two lists behind their folders, which are plain prefixes.

    Args:
        most: the largest list to read, in bytes.

    Raises:
        FileProblem: a list cannot be read.
        DataError: one has more names than the other.
    """
    found = [
        [
            os.fsencode(folder) + word
            for line in read_names(path, most)
            for word in line.name.split()
        ]
        for path, folder in zip((first, second), folders, strict=True)
    ]
    if len(found[0]) != len(found[1]):
        raise DataError(
            f"{first}: it has {len(found[0])} names, but {second} has {len(found[1])}; give a "
            "label image for each"
        )
    return MapList([Entry(name, 0) for name in found[0]], found[1])


class SlicedMapSamples(MapSamples):
    """Images with a grid of pixels of their label maps.

    Args:
        path: the list of images, for messages.
        entries: the names of images and label images.
        steps: crop, flip, mean and scale.
        settings: the rest.
        taken: how the entries are taken; its seed is that of all random choices.
    """

    def __init__(
        self,
        path: str,
        entries: MapList,
        steps: LabelMapSettings,
        settings: SliceSettings,
        taken: ListSettings,
    ) -> None:
        super().__init__(path, entries, steps, taken)
        self._slicing = settings

    def decode(self, raw: RawSample) -> MapSample:
        pixels = self._read(raw.key, True)
        labels = self._labels(raw, *pixels.shape[:2])
        if self._slicing.scales is not None:
            pixels, labels = self._scaled(pixels, labels, raw.ordinal)
        mode: dict[str, Any] = {"mode": "reflect"} if self._slicing.reflects else {}
        for border in self._borders(labels.shape):
            pixels = np.pad(pixels, [*border, (0, 0)], **mode)
            labels = np.pad(labels, border, constant_values=OUTSIDE)
        channels, finished = self._steps.finished(planes(pixels), labels, raw.ordinal)
        return MapSample(channels, 0, self._slicing.grid.of(finished), (0, 0))

    def _scaled(
        self, pixels: NDArray[Any], labels: NDArray[Any], ordinal: int
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        assert self._slicing.scales is not None
        factor = SampleChoices(self._taken.seed, ordinal).uniform("scale", *self._slicing.scales)
        if round(min(labels.shape) * factor) < 1:
            raise DataError(
                f"a scale of {factor:g} leaves nothing of {labels.shape[0]}x{labels.shape[1]} "
                "(height x width)"
            )
        method = "CUBIC" if factor > 1 else "AREA"
        return scale_image(pixels, factor, method), scale_image(labels, factor, "NEAREST")

    def _borders(self, size: tuple[int, ...]) -> list[list[Pair]]:
        """What is added above and below, and left and right: the margin, then up to the crop."""
        margin = self._slicing.grid.offset
        missing = [
            max(self._slicing.crop - extent - 2 * own, 0)
            for extent, own in zip(size, margin, strict=True)
        ]
        rows = (missing[0] // 2, missing[0] - missing[0] // 2)
        # The fork gives OpenCV the two in exchanged places: the larger half is on the left.
        columns = (missing[1] - missing[1] // 2, missing[1] // 2)
        return [[(own, own) for own in margin], [rows, columns]]

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        return self._slicing.grid.extent

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, MapSample)
        return sample.labels


class BinSamples(ImageSamples):
    """Arrays of three axes from binary files, with a grid of pixels of label images.

    Args:
        path: the list of arrays, for messages.
        entries: the names of arrays and label images.
        labels: which pixels of the label images are labels.
        grid: which places of the arrays count, along height and width; None for all.
        mirror: half of the samples are flipped left to right.
        taken: how the entries are taken; its seed is that of the flips, too.
    """

    def __init__(
        self,
        path: str,
        entries: MapList,
        labels: Grid,
        grid: Grid | None,
        mirror: bool,
        taken: ListSettings,
    ) -> None:
        super().__init__(path, entries.images, taken)
        self._maps = entries.labels
        self._labels = labels
        self._grid = grid
        self._mirror = mirror

    def decode(self, raw: RawSample) -> MapSample:
        values = parse_bin(read_image_file(raw.key))
        if self._grid is not None:
            if any(end > size for end, size in zip(self._grid.end, values.shape[1:], strict=True)):
                high, wide = self._grid.end
                raise DataError(
                    f"it is {values.shape[1]}x{values.shape[2]} (height x width), but bin_slice "
                    f"reaches to {high}x{wide}"
                )
            values = self._grid.of(values)
        name = self._maps[raw.position]
        try:
            image = read_pixels(name, "gray")
        except DataError as error:
            shown = shorten(name.decode(errors="backslashreplace"), 60)
            raise DataError(f"its label image {shown!r}: {error}") from error
        labels = self._labels.of(image)
        if self._mirror and pick_one(self._taken.seed, raw.ordinal, "mirror", 2):
            values, labels = values[:, :, ::-1], labels[:, ::-1]
        return MapSample(np.ascontiguousarray(values), 0, labels, (0, 0))

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        return self._labels.extent

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, MapSample)
        return sample.labels


def parse_bin(data: bytes) -> NDArray[np.float32]:
    """The array (channels, height, width) of a file.

    The file has OpenCV's code of the type, the number of axes and the extents as 32-bit integers,
    and then the values. What follows them is passed over.

    Raises:
        DataError: it is another kind of file, or cut off.
    """
    head = np.frombuffer(data[:20], "<i4", len(data[:20]) // 4).tolist()
    if len(head) < 5 or head[:2] != [_FLOAT32, 3] or min(head[2:]) < 1:
        shown = ", ".join(map(str, head)) or "nothing"
        raise DataError(
            f"it begins with {shown}; expected {_FLOAT32} (float32), 3 and three extents as 32-bit "
            "integers"
        )
    channels, height, width = head[2:]
    count, held = channels * height * width, (len(data) - 20) // 4
    if held < count:
        raise DataError(
            f"it is cut off: {channels}x{height}x{width} are {count:,} values, and it has {held:,}"
        )
    return np.frombuffer(data, "<f4", count, 20).reshape(channels, height, width)
