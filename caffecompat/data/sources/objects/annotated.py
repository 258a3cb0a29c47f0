"""The samples of AnnotatedData layers: images of a database with the boxes of their objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.boxes import Boxes
from caffecompat.data.codec.annotated_datum import Objects, objects_of, parse_annotated_datum
from caffecompat.data.codec.datum import decode_datum
from caffecompat.data.codec.images import Pixels
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.base import RawSample, Sample, Samples
from caffecompat.data.transforms.batch_samplers import BatchSamplers
from caffecompat.data.transforms.box_crops import (
    EmitConstraint,
    Expansion,
    crop_pixels,
    in_crop,
    unit_box,
)
from caffecompat.data.transforms.box_resize import BoxResize
from caffecompat.data.transforms.colour_distortion import ColourDistortion
from caffecompat.data.transforms.image_noise import ImageNoise
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message


@dataclass(frozen=True)
class AnnotatedSample(Sample):
    """An image that is ready but for crop, flip and mean, and its objects before the resizing.

    Attributes:
        objects: relative to the image before it was resized.
        size: height and width of that image.
        part: the part of the resized image that is left, relative to it.
        steps: what was done with the image.
    """

    objects: Objects
    size: tuple[int, int]
    part: Boxes
    steps: ImageSteps


class PartSampler(Protocol):
    """Draws the part of an image that is kept."""

    def draw(self, objects: Boxes, choices: SampleChoices) -> Boxes | None:
        """The part (xmin, ymin, xmax, ymax), relative to the image; None for all of it."""
        ...


class ImageSteps:
    """The steps that a ``transform_param`` and ``batch_sampler`` messages add before the crop.

    In this order, as in SSD: colours are distorted, the image is put into a larger one, a sampled
    part is cut out, it is resized, noise is added, and ``crop_h`` x ``crop_w`` are cut out. SSD
    stores the image as a JPEG after each of the first three steps; here it is not.

    Args:
        p: a TransformationParameter.
        samplers: BatchSampler messages.
        phase: ``"TRAIN"``, in which crops are random, or ``"TEST"``.

    Raises:
        DataError: a setting is impossible.
    """

    def __init__(self, p: Message, samplers: list[Message], phase: str) -> None:
        mean = np.array(p.mean_value, np.float32)
        self.constraint = EmitConstraint(
            p.emit_constraint if p.HasField("emit_constraint") else None
        )
        self.distortion = ColourDistortion(p.distort_param) if p.HasField("distort_param") else None
        self.expansion: Expansion | None = None
        if p.HasField("expand_param"):
            if p.HasField("mean_file"):
                raise DataError(
                    "transform_param: expand_param makes images of many sizes, which mean_file "
                    "does not fit; use mean_value"
                )
            self.expansion = Expansion(p.expand_param, mean, self.constraint)
        self.samplers: PartSampler | None = BatchSamplers(samplers) if samplers else None
        self.resize = BoxResize(p.resize_param) if p.HasField("resize_param") else None
        self.noise = ImageNoise(p.noise_param) if p.HasField("noise_param") else None
        # crop_size, where it is given, counts instead.
        self.crop = (0, 0) if p.crop_size else (int(p.crop_h), int(p.crop_w))
        self.random_crop = phase == "TRAIN"
        if (self.crop[0] > 0) != (self.crop[1] > 0):
            raise DataError(
                f"transform_param: crop_h is {self.crop[0]} and crop_w is {self.crop[1]}; set "
                "both, or neither"
            )

    @property
    def changes_pixels(self) -> bool:
        """Whether there is any step."""
        steps = (self.distortion, self.expansion, self.samplers, self.resize, self.noise)
        return any(step is not None for step in steps) or self.crop[0] > 0

    def sample(self, pixels: NDArray[Any], objects: Objects, choices: SampleChoices) -> Any:
        """Pixels, objects, size before the resizing, and remaining part; see AnnotatedSample.

        Args:
            pixels: channels x height x width.
        """
        if not self.changes_pixels:
            return pixels, objects, pixels.shape[1:], unit_box()
        if pixels.dtype != np.uint8:
            raise DataError("it holds float_data, but these steps of transform_param need images")
        image: Pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        if self.distortion is not None:
            image = self.distortion.apply(image, choices)
        if self.expansion is not None:
            image, objects = self.expansion.apply(image, objects, choices)
        if self.samplers is not None:
            crop = self.samplers.draw(objects.boxes, choices)
            if crop is not None:
                clipped = np.clip(crop, np.float32(0), np.float32(1))
                image = np.ascontiguousarray(crop_pixels(image, crop))
                objects = in_crop(objects, clipped, self.constraint)
        size = image.shape[:2]
        if self.resize is not None:
            image = self.resize.apply(image, choices)
        if self.noise is not None:
            image = self.noise.apply(image, choices)
        image, part = self._cropped(image, choices)
        return image.transpose(2, 0, 1), objects, size, part

    def _cropped(self, image: Pixels, choices: SampleChoices) -> tuple[Pixels, Boxes]:
        """The window of ``crop_h`` x ``crop_w``, and what part of the image it is."""
        height, width = self.crop
        if not height:
            return image, unit_box()
        rows, columns = image.shape[0] - height, image.shape[1] - width
        if rows < 0 or columns < 0:
            raise DataError(
                f"it is {image.shape[0]}x{image.shape[1]} (height x width), smaller than crop_h "
                f"{height} and crop_w {width}; use a resize_param, or a smaller crop"
            )
        top, left = rows // 2, columns // 2
        if self.random_crop:
            top, left = choices.pick("crop row", rows + 1), choices.pick("crop column", columns + 1)
        edges = np.array([left, top, left + width, top + height], np.float32)
        extents = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        return image[top : top + height, left : left + width], edges / extents

    def objects(self, sample: AnnotatedSample, crop: Boxes, mirror: bool) -> Objects:
        """The objects of a sample in a crop of it, relative to the crop.

        Args:
            crop: relative to the resized image.
            mirror: whether the crop is flipped left to right.
        """
        objects = sample.objects
        if self.resize is not None:
            resized = self.resize.boxes(objects.boxes, *sample.size)
            objects = objects.chosen(np.ones(len(objects), bool), resized)
        found = in_crop(objects, crop, self.constraint)
        boxes = found.boxes
        if mirror:
            boxes = np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], 1)
        if self.resize is not None:
            boxes = self.resize.extrapolated(boxes, *sample.size, crop)
        return found.chosen(np.ones(len(found), bool), boxes)


class AnnotatedSamples(Samples):
    """The records of a database of AnnotatedDatum, in order; the first follows the last.

    A label is an array (G, 8) of rows [0, class, instance, xmin, ymin, xmax, ymax, difficult], or
    where the records have no annotations the number in the Datum. Random choices are pure functions
    of the seed and the sample's number.

    Args:
        database: the database.
        layer: the LayerParameter of an AnnotatedData layer.
        phase: ``"TRAIN"`` or ``"TEST"``.
        transform: crop, flip and mean of the same layer.
        seed: of the random choices.

    Attributes:
        has_boxes: whether labels are arrays.

    Raises:
        DataError: the database has no records, or others; a setting is impossible.
    """

    def __init__(
        self, database: Database, layer: Message, phase: str, transform: Transform, seed: int
    ) -> None:
        super().__init__(database.path)
        self._transform = transform
        self._database = database
        self._seed = seed
        self._p = layer.transform_param
        parameter = layer.annotated_data_param
        self._steps = self.read_steps(layer, phase)
        if len(database) == 0:
            raise DataError(f"{database.path}: the database has no records; put images into it")
        raw = self.fetch(0)
        try:
            first = parse_annotated_datum(raw.value)
        except DataError as error:
            raise DataError(f"{self.locate(raw)}: {error}") from error
        self.has_boxes = bool(first.HasField("type") or parameter.HasField("anno_type"))
        kind = parameter.anno_type if parameter.HasField("anno_type") else first.type
        if self.has_boxes and kind != 0:
            raise DataError(
                f"{database.path}: its annotations are of another type than BBOX, the only one "
                "that is supported"
            )
        self.label_type = object if self.has_boxes else np.float32

    def read_steps(self, layer: Message, phase: str) -> list[ImageSteps]:
        """What is done with images; :meth:`steps_of` takes one of them for a sample."""
        samplers = list(layer.annotated_data_param.batch_sampler)
        return [ImageSteps(layer.transform_param, samplers, phase)]

    def steps_of(self, ordinal: int) -> ImageSteps:
        """What is done with the image of a sample of the run."""
        return self._steps[0]

    def __len__(self) -> int:
        return len(self._database)

    def fetch(self, ordinal: int) -> RawSample:
        position = ordinal % len(self._database)
        return RawSample(ordinal, position, *self._database.read(position))

    def decode(self, raw: RawSample) -> AnnotatedSample:
        record = parse_annotated_datum(raw.value)
        pixels = decode_datum(record.datum, self._p.force_color, self._p.force_gray)
        choices = SampleChoices(self._seed, raw.ordinal)
        steps = self.steps_of(raw.ordinal)
        made, objects, size, part = steps.sample(pixels, objects_of(record), choices)
        return AnnotatedSample(made, record.datum.label, objects, size, part, steps)

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, AnnotatedSample)
        if not self.has_boxes:
            return sample.label
        return self.seen_objects(sample, augmentation).rows()

    def seen_objects(self, sample: AnnotatedSample, augmentation: Augmentation) -> Objects:
        """The objects of a sample after crop and flip, relative to what is left of the image."""
        crop = self._crop(sample, augmentation)
        return sample.steps.objects(sample, crop, augmentation.mirror)

    def _crop(self, sample: AnnotatedSample, augmentation: Augmentation) -> Boxes:
        """The part of the resized image that becomes the sample, relative to it."""
        if not self._p.crop_size:
            return sample.part
        place = self._transform.place(sample.shape, augmentation)
        edges = [place.left, place.top, place.left + place.size[1], place.top + place.size[0]]
        extents = np.array([place.image[1], place.image[0]] * 2, np.float32)
        return np.array(edges, np.float32) / extents

    def close(self) -> None:
        self._database.close()
