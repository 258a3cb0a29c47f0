"""The samples of ImageGtData, DetectionData and EvalData: images with boxes of objects."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.codec.images import Pixels, read_pixels
from caffecompat.data.counter_rng import permutation
from caffecompat.data.rounding import round_away
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.sources.objects.region_lists import RegionImage
from caffecompat.data.transforms.anchor_maps import AnchorSettings, Targets, anchor_maps
from caffecompat.data.transforms.colour_distortion import ColourDistortion
from caffecompat.data.transforms.region_crops import (
    Placed,
    Regions,
    chosen_centre,
    placed,
)
from caffecompat.data.transforms.transform import Augmentation
from caffecompat.errors import DataError
from caffecompat.reporting.terminal import short_name

Floats = NDArray[np.float32]
Size = tuple[int, int]

_ROUNDED_TO = 32


@dataclass(frozen=True)
class RegionLabel:
    """What a sample has beside its image.

    Attributes:
        maps: those of its anchors.
        rows: float32 (G, 8): [0, x1, y1, x2, y2, label, ignored, difficult].
        size: height and width.
    """

    maps: tuple[Floats, ...]
    rows: Floats
    size: Size


@dataclass(frozen=True)
class RegionSample(Sample):
    """A finished image with its label."""

    found: RegionLabel


@dataclass(frozen=True)
class Rescaling:
    """How images are multiplied at random, as :attr:`RegionSettings.rescale` says.

    Attributes:
        least, most: of an object's size in pixels, or with ``relative`` of the factor; 0 for none.
        aspects: the smallest and largest width / height, or None.
        probability: of a multiplication (Cascade R-CNN).
        relative: see above.
    """

    least: float
    most: float
    aspects: tuple[float, float] | None = None
    probability: float = 0.5
    relative: bool = False


Rescale = Callable[[Rescaling, Floats | None, SampleChoices], tuple[float, float]]


@dataclass(frozen=True)
class RegionSettings:
    """How an image of a list becomes a sample.

    Attributes:
        batch: samples of a batch, of all ranks; the first one says what size they have.
        resized: the size of an image (height, width) before it is placed, given its own and the
            factor of the batch.
        canvas: the size of samples, given that of the first resized image and the factor; None:
            samples are the resized images.
        rescale: the factors (down, right) for a placed image, given one of its objects, or None.
        rescaling: its settings; None: images keep their size.
        anchors: which anchors match; None: there are no maps.
        least: smaller objects are ignored, (height, width).
        last_decides: not the first image of a batch, but the last one of the list decides.
        mirror: half of the samples are flipped.
        mean: subtracted: none, one value, or one for each of B, G and R.
        scale: the factor after that.
        ratios: factors of which each batch draws one; none for 1.
        distortion: of colours.
    """

    batch: int
    resized: Callable[[Size, float], Size]
    canvas: Callable[[Size, float], Size] | None
    rescale: Rescale | None = None
    rescaling: Rescaling | None = None
    anchors: AnchorSettings | None = None
    least: tuple[float, float] = (0.0, 0.0)
    last_decides: bool = False
    mirror: bool = False
    mean: tuple[float, ...] = ()
    scale: float = 1.0
    ratios: tuple[float, ...] = ()
    distortion: ColourDistortion | None = None


Order = Callable[[int], NDArray[np.int64]]


class RegionSamples(Samples):
    """The images of a list with boxes, ready for the net.

    All random choices are pure functions of (seed, number of the sample).

    Args:
        path: the list, for messages.
        images: its images.
        root: the prefix of each name, with a slash.
        settings: what happens to them.
        seed: of the choices.
        order: the order of the images each time through, see :func:`shuffled`; None for theirs.
    """

    label_type = object

    def __init__(
        self,
        path: str,
        images: list[RegionImage],
        root: str,
        settings: RegionSettings,
        seed: int,
        order: Order | None = None,
    ) -> None:
        super().__init__(path)
        self._images = images
        self._root = os.fsencode(root)
        self._settings = settings
        self._seed = seed
        # Two times through, because a batch may reach the next one.
        self._order = None if order is None else functools.lru_cache(maxsize=2)(order)

    def __len__(self) -> int:
        return len(self._images)

    def fetch(self, ordinal: int) -> RawSample:
        position = self._position(ordinal)
        return RawSample(ordinal, position, self._images[position].name)

    def _position(self, ordinal: int) -> int:
        times, place = divmod(ordinal, len(self._images))
        return place if self._order is None else int(self._order(times)[place])

    def decode(self, raw: RawSample) -> RegionSample:
        s, image = self._settings, self._images[raw.position]
        choices = SampleChoices(self._seed, raw.ordinal)
        pixels = self._pixels(image)
        if s.distortion is not None:
            pixels = s.distortion.apply(pixels, choices)
        regions = Regions(pixels, image.boxes, image.regions)
        if s.mirror and choices.pick("mirror", 2):
            regions = regions.mirrored()
        factor = self._factor(raw.ordinal)
        regions = regions.resized(*s.resized(regions.size, factor))
        found = self._placed(regions, raw.ordinal, factor, choices)
        targets = Targets(found.regions.boxes, image.labels, image.ignored)
        maps: list[Floats] = []
        if s.canvas is not None:
            targets = targets.checked(found.regions.size, s.least)
        if s.anchors is not None:
            maps = anchor_maps(found, targets, s.anchors)
        rows = _rows(targets, image.difficult)
        label = RegionLabel(tuple(maps), rows, found.regions.size)
        return RegionSample(self._finished(found), 0, label)

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, RegionSample)
        # An array of one object, because numpy would take a tuple apart.
        return sample.found  # type: ignore[return-value]

    def locate(self, raw: RawSample) -> str:
        name = short_name(raw.key.decode(errors="backslashreplace"))
        return f"{self.path}: image {raw.position + 1} (file {name!r})"

    def close(self) -> None:
        """There is nothing to close."""

    def _pixels(self, image: RegionImage) -> Pixels:
        pixels = read_pixels(self._root + image.name, "color")
        if pixels.shape[:2] != (image.height, image.width):
            raise DataError(
                f"it is {pixels.shape[0]}x{pixels.shape[1]} (height x width), but the list says "
                f"{image.height}x{image.width}; boxes are in pixels of that size"
            )
        return pixels

    def _factor(self, ordinal: int) -> float:
        """The factor of the sample's batch."""
        ratios = self._settings.ratios
        if not ratios:
            return 1.0
        batch = SampleChoices(self._seed, ordinal // self._settings.batch)
        return ratios[batch.pick("factor of a batch", len(ratios))]

    def _placed(
        self, regions: Regions, ordinal: int, factor: float, choices: SampleChoices
    ) -> Placed:
        s = self._settings
        if s.canvas is None:
            # Then all images have one size, or each its own batch: the layer has checked it.
            return Placed(regions, (0, 0), regions.size)
        at = -1 if s.last_decides else self._position(ordinal - ordinal % s.batch)
        first = self._images[at]
        size = s.resized((first.height, first.width), factor)
        canvas = s.canvas(size, factor)
        chosen, centre = chosen_centre(regions, canvas, choices)
        factors = (1.0, 1.0)
        if s.rescale is not None and s.rescaling is not None:
            box = None if chosen is None else regions.boxes[chosen]
            factors = s.rescale(s.rescaling, box, choices)
        return placed(regions, canvas, factors, centre, choices)

    def _finished(self, found: Placed) -> Floats:
        """Channels x height x width; 0 beside the image."""
        s = self._settings
        pixels = found.regions.pixels
        values = np.zeros((pixels.shape[2], *pixels.shape[:2]), np.float32)
        inside = tuple(
            slice(start, start + extent)
            for start, extent in zip(found.start, found.extent, strict=True)
        )
        part = pixels[inside].astype(np.float32)
        if s.mean:
            part = part - np.array(s.mean, np.float32)
        values[:, inside[0], inside[1]] = (part * np.float32(s.scale)).transpose(2, 0, 1)
        return values


def _rows(targets: Targets, difficult: NDArray[np.bool_]) -> Floats:
    zero = np.zeros((len(targets.labels), 1), np.float32)
    flags = np.stack([targets.labels, targets.ignored, difficult], 1).astype(np.float32)
    return np.concatenate([zero, targets.boxes, flags], 1).astype(np.float32)


def shuffled(images: list[RegionImage], kind: str, group: int, seed: int) -> Order:
    """The order of images each time through, given its number.

    ``kind`` is ``"random"``; ``"random_aspect"``: all higher than wide and then all others, or the
    other way round, each in a random order; ``"random_mix_aspect"``: groups of ``group`` places
    take turns between the two, until one of them is used up.
    """
    high = np.flatnonzero([image.height >= image.width for image in images])
    wide = np.flatnonzero([image.height < image.width for image in images])

    def order(times: int) -> NDArray[np.int64]:
        if kind == "random":
            return permutation(seed, len(images), f"images, pass {times}")
        parts = [
            part[permutation(seed, len(part), f"{name} images, pass {times}")]
            for part, name in ((high, "high"), (wide, "wide"))
        ]
        if not SampleChoices(seed, times).pick("images that come first", 2):
            parts.reverse()
        if kind == "random_aspect":
            return np.concatenate(parts)
        return _in_turns(parts, group)

    return order


def _in_turns(parts: list[NDArray[np.int64]], group: int) -> NDArray[np.int64]:
    found: list[int] = []
    taken = [0, 0]
    while all(taken[k] < len(parts[k]) for k in (0, 1)):
        k = len(found) // group % 2
        found.append(int(parts[k][taken[k]]))
        taken[k] += 1
    rest = [part[start:] for part, start in zip(parts, taken, strict=True)]
    return np.concatenate([np.array(found, np.int64), *rest])


def rescale_in_half_octaves(
    rescaling: Rescaling, box: Floats | None, choices: SampleChoices
) -> tuple[float, float]:
    """MS-CNN's factors (down, right): an object gets one of the sizes between least and most.

    Half of the samples with an object are multiplied so that its size becomes, to half an octave,
    one of those; half of these change their aspect, too, by one side.
    """
    if box is None or not choices.pick("rescale", 2):
        return (1.0, 1.0)
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    count = round_away(2 * math.log2(rescaling.most / rescaling.least) + 1)
    steps = [step / 2 for step in range(count)]
    own, best = 0.0, 0.0
    for step in steps:
        areas = (width * height, (rescaling.least * 2.0**step) ** 2)
        share = min(areas) / max(areas)
        if share > best:
            own, best = step, share
    factor = 2.0 ** (steps[choices.pick("size", count)] - own)
    down = right = float(np.float32(factor))
    if rescaling.aspects is None or not choices.pick("change aspect", 2) or height <= 0:
        return (down, right)
    least, most = rescaling.aspects
    drawn = choices.pick("aspect", round_away((most - least) / 0.05)) * 0.05 + least
    if width <= 0:
        return (down, right)
    times = drawn / (width / height)
    shortest, longest = 0.8 * rescaling.least, 1.2 * rescaling.most
    if choices.pick("side of the aspect", 2):
        if shortest <= width * right * times <= longest:
            right = float(np.float32(right * times))
    elif shortest <= height * down / times <= longest:
        down = float(np.float32(down / times))
    return (down, right)


def rescale_by_logarithm(
    rescaling: Rescaling, box: Floats | None, choices: SampleChoices
) -> tuple[float, float]:
    """Cascade R-CNN's factors (down, right), uniform in their logarithm.

    An object's size becomes one between least and most, or the factor itself is between them; then
    the aspect is changed. Without an object the factor is 2 where it would depend on one.
    """
    if not choices.happens("rescale", rescaling.probability):
        return (1.0, 1.0)
    bounds = [math.log2(rescaling.least), math.log2(rescaling.most)]
    if not rescaling.relative:
        if box is None:
            bounds = [1.0, 1.0]
        else:
            width, height = float(box[2] - box[0] + 1), float(box[3] - box[1] + 1)
            size = math.log2(math.sqrt(width * height))
            bounds = [bound - size for bound in bounds]
    factor = 2.0 ** choices.uniform("factor", *bounds)
    down = right = float(np.float32(factor))
    if rescaling.aspects is not None:
        least, most = (math.log2(a) for a in rescaling.aspects)
        side = math.sqrt(2.0 ** choices.uniform("aspect", least, most))
        down, right = float(np.float32(down / side)), float(np.float32(right * side))
    return (down, right)


def rounded_size(size: Size) -> Size:
    """Multiples of 32 that are nearest to a height and a width."""
    return (
        round_away(size[0] / _ROUNDED_TO) * _ROUNDED_TO,
        round_away(size[1] / _ROUNDED_TO) * _ROUNDED_TO,
    )
