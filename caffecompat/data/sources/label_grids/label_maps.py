"""Images with a label for each pixel, which take the crop and the flip of their image.

A line of a list is a file name of an image and one of a label image, separated by white space.
Source of the semantics: image_seg_data_layer.cpp of DeepLab and PSPNet, dense_image_data_layer.cpp
of SegNet, image_labelmap_data_layer.cpp of HED.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.codec.channel_planes import planes
from caffecompat.data.codec.images import (
    Pixels,
    read_pixels,
    resize_image,
    resize_nearest,
)
from caffecompat.data.counter_rng import pick_one
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.base import RawSample, Sample
from caffecompat.data.sources.image_lists.image_list import Entry, read_names
from caffecompat.data.sources.image_lists.image_samples import ImageSamples, ListSettings
from caffecompat.data.transforms.photo_augmentation import PhotoAugmentation
from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import shorten

Floats = NDArray[np.float32]
Kind = Literal["pixel", "image", "none"]

# From here on HED's rounding of value / 255 gives 1.
_EDGE = 128


@dataclass(frozen=True)
class LabelMapSettings:
    """How an image and its label map become a sample.

    Attributes:
        kind: ``"pixel"``: a list names label images; ``"image"``: it has one label for all pixels
            of an image; ``"none"``: it has no labels, and all pixels are ignored.
        size: height and width to resize to; None to keep the size.
        crop: height and width of the crop; None for none.
        random_crop: the crop is at a random place, not in the middle.
        mirror: half of the samples are flipped left to right.
        ignored: the label of pixels without a label; also where ``pads`` puts a border.
        pads: an image that is smaller than the crop gets a border of the mean.
        edges: the map is 1 where the label image is 128 or more, and is resized smoothly.
        mean: subtracted from each channel: none, one value or one per channel.
        scale: the factor after that.
        augmentation: random changes after resizing; None for none.
        label_divisor: the map has height / label_divisor x width / label_divisor pixels.
    """

    kind: Kind = "pixel"
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    random_crop: bool = False
    mirror: bool = False
    ignored: int = 255
    pads: bool = False
    edges: bool = False
    mean: tuple[float, ...] = ()
    scale: float = 1.0
    augmentation: PhotoAugmentation | None = None
    label_divisor: int = 1


@dataclass(frozen=True)
class MapSample(Sample):
    """A finished image with its label map.

    Attributes:
        labels: height x width, float32.
        file_size: height and width of the image file, as far as the sample shows them.
    """

    labels: Floats
    file_size: tuple[int, int]

    def label_row(self) -> Floats:
        """The map, row by row, and then the height and width of the file."""
        return np.concatenate([self.labels.ravel(), np.array(self.file_size, np.float32)])


@dataclass(frozen=True)
class MapList:
    """A list: the names of images, and for each the name of its label image or its label."""

    images: list[Entry]
    labels: list[bytes]


def read_map_list(path: str, kind: Kind, max_bytes: int | None = None) -> MapList:
    """The entries of a list.

    Raises:
        FileProblem, FormatError: it cannot be read.
        DataError: a line has no second word, or one that is no label.
    """
    images, labels = [], []
    for number, entry in enumerate(read_names(path, max_bytes), 1):
        words = entry.name.split()
        if not words:
            continue
        if kind != "none" and len(words) < 2:
            shown = shorten(entry.name.decode(errors="backslashreplace"), 60)
            second = "a label image" if kind == "pixel" else "a label"
            raise DataError(
                f"{path}: line {number} is {shown!r}; expected the name of an image and {second}, "
                "separated by a space"
            )
        label = words[1] if kind != "none" else b""
        if kind == "image" and not (label.isdigit() and int(label[:4]) < 256 and len(label) < 4):
            shown = shorten(label.decode(errors="backslashreplace"), 20)
            raise DataError(f"{path}: line {number} has the label {shown!r}, expected 0 to 255")
        images.append(Entry(words[0], 0))
        labels.append(label)
    return MapList(images, labels)


class MapSteps:
    """Border, crop, flip, mean and scale of an image and its map.

    Args:
        settings: what happens.
        seed: the seed of crops and flips.
    """

    def __init__(self, settings: LabelMapSettings, seed: int) -> None:
        self._settings = settings
        self._seed = seed

    def finished(
        self, pixels: NDArray[Any], labels: NDArray[Any], ordinal: int
    ) -> tuple[Floats, Floats]:
        """Image and map after border, crop, flip, mean and scale."""
        s = self._settings
        mean = np.array(s.mean, np.float32).reshape(-1, 1, 1)
        if len(mean) not in (0, 1, len(pixels)):
            raise DataError(
                f"it has {len(pixels)} channels, but transform_param has {len(mean)} mean_value; "
                "give one, or one per channel (in B, G, R order)"
            )
        values = pixels.astype(np.float32)
        if len(mean):
            values -= mean
        if s.crop is not None:
            values, labels = self._cropped(values, labels, s.crop, ordinal)
        if s.mirror and pick_one(self._seed, ordinal, "mirror", 2):
            values, labels = values[:, :, ::-1], labels[:, ::-1]
        return np.ascontiguousarray(values * np.float32(s.scale)), labels.astype(np.float32)

    def _cropped(
        self, values: Floats, labels: NDArray[Any], crop: tuple[int, int], ordinal: int
    ) -> tuple[Floats, NDArray[Any]]:
        """The crop; a border is 0, since the mean has been subtracted."""
        missing = [
            max(wanted - extent, 0) for wanted, extent in zip(crop, labels.shape, strict=True)
        ]
        if any(missing):
            if not self._settings.pads:
                raise DataError(
                    f"it is {labels.shape[0]}x{labels.shape[1]} (height x width), smaller than the "
                    f"crop {crop[0]}x{crop[1]}; give new_height and new_width, or a smaller crop"
                )
            border = [(extent // 2, extent - extent // 2) for extent in missing]
            values = np.pad(values, [(0, 0), *border])
            labels = np.pad(labels, border, constant_values=self._settings.ignored)
        starts = []
        for axis, purpose in enumerate(("crop row", "crop column")):
            room = labels.shape[axis] - crop[axis]
            drawn = pick_one(self._seed, ordinal, purpose, room + 1)
            starts.append(drawn if self._settings.random_crop else room // 2)
        window = np.s_[starts[0] : starts[0] + crop[0], starts[1] : starts[1] + crop[1]]
        return values[:, window[0], window[1]], labels[window]


class MapSamples(ImageSamples):
    """The images of a list with their label maps, ready for the net.

    Args:
        path: the list, for messages.
        entries: its entries.
        settings: what happens to images and maps.
        taken: how the entries are taken; its seed is that of crops and flips, too.
    """

    def __init__(
        self, path: str, entries: MapList, settings: LabelMapSettings, taken: ListSettings
    ) -> None:
        super().__init__(path, entries.images, taken)
        self._maps = entries.labels
        self._settings = settings
        self._steps = MapSteps(settings, taken.seed)

    def decode(self, raw: RawSample) -> MapSample:
        pixels = self._read(raw.key, self._taken.colour)
        height, width = pixels.shape[:2]
        labels = self._labels(raw, height, width)
        if self._settings.size is not None:
            h, w = self._settings.size
            resize = resize_image if self._settings.edges else resize_nearest
            pixels = resize_image(pixels, width=w, height=h)
            divisor = self._settings.label_divisor
            labels = resize(labels, width=w // divisor, height=h // divisor)
        if self._settings.augmentation is not None:
            choices = SampleChoices(self._taken.seed, raw.ordinal)
            pixels, labels = self._settings.augmentation.apply(
                pixels, labels, self._settings.ignored, choices
            )
        if self._settings.edges:
            labels = (labels >= _EDGE).astype(np.uint8)
        channels, finished = self._steps.finished(planes(pixels), labels, raw.ordinal)
        seen = (min(height, finished.shape[0]), min(width, finished.shape[1]))
        return MapSample(channels, 0, finished, seen)

    def label_shape_of(self, first: Sample) -> tuple[int, ...]:
        divisor = self._settings.label_divisor
        return ((first.shape[1] // divisor) * (first.shape[2] // divisor) + 2,)

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, MapSample)
        return sample.label_row()

    def _read(self, name: bytes, colour: bool) -> Pixels:
        return read_pixels(self._root + name, "color" if colour else "gray")

    def _labels(self, raw: RawSample, height: int, width: int) -> Pixels:
        """The label of each pixel of an image file."""
        text = self._maps[raw.position]
        if self._settings.kind != "pixel":
            value = int(text) if text else self._settings.ignored
            return np.full((height, width), value, np.uint8)
        name = shorten(text.decode(errors="backslashreplace"), 60)
        try:
            labels = self._read(text, False)
        except DataError as error:
            raise DataError(f"its label image {name!r}: {error}") from error
        if labels.shape != (height, width):
            raise DataError(
                f"it is {height}x{width} (height x width), but its label image {name!r} is "
                f"{labels.shape[0]}x{labels.shape[1]}; both must have one size"
            )
        return labels
