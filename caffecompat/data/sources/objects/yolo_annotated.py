"""The samples of MobileNet-YOLO's AnnotatedData: sizes and crops of its own, boxes in lists.

Source of the semantics: annotated_data_layer.cpp, sampler.cpp and data_transformer.cpp of
MobileNet-YOLO.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffecompat.data.backends.database import Database
from caffecompat.data.boxes import Boxes
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.sources.base import Sample
from caffecompat.data.sources.objects.annotated import AnnotatedSample, AnnotatedSamples, ImageSteps
from caffecompat.data.transforms.transform import Augmentation, Transform
from caffecompat.errors import DataError
from caffecompat.proto.schema import Message

# The rows of a list of objects; further objects are left out.
_MOST_OBJECTS = 300
# The size of images is drawn anew for every tenth batch.
_BATCHES_OF_ONE_SIZE = 10
_LEAST_SUM, _LARGEST_SUM = 0.99, 1.01
# Probabilities of the whole image and of crops that leave out up to half of the jitter.
_WHOLE, _HALF = 0.2, 0.4


class Jitter:
    """One crop of each image: its sides are 1 - ``share`` to 1 of those of the image.

    One image of five stays whole, and one of five is cropped by up to half of it.

    Args:
        share: ``yolo_data_jitter``.
        square: both sides of a crop have the same share of those of the image.
    """

    def __init__(self, share: float, square: bool) -> None:
        if not 0 < share < 1:
            raise DataError(
                f"annotated_data_param: yolo_data_jitter is {share:g}, expected a number from 0 "
                "to below 1"
            )
        self._share, self._square = share, square

    def draw(self, objects: Boxes, choices: SampleChoices) -> Boxes | None:
        """The crop (xmin, ymin, xmax, ymax), relative to the image; None for the whole image."""
        kind = choices.uniform("kind of jitter")
        if kind < _WHOLE:
            return None
        share = self._share / 2 if kind < _HALF else self._share
        width, height = choices.uniforms("jitter of the sides", 1 - share, 1, 2)
        if self._square:
            height = width
        left = choices.uniform("jitter of the column", 0, 1 - float(width))
        top = choices.uniform("jitter of the row", 0, 1 - float(height))
        return np.array([left, top, left + width, top + height], np.float32)


class YoloSteps(ImageSteps):
    """:class:`ImageSteps` in which images without samplers are jittered."""

    def __init__(self, p: Message, samplers: list[Message], phase: str, jitter: float) -> None:
        super().__init__(p, samplers, phase)
        if not samplers and jitter:
            padded = self.resize is not None and self.resize.mode == "FIT_LARGE_SIZE_AND_PAD"
            self.samplers = Jitter(jitter, padded)


class YoloAnnotatedSamples(AnnotatedSamples):
    """Records of AnnotatedDatum with one of several sizes for ten batches at a time.

    With ``yolo_data_type`` 1 a label is a list (300, 5) of rows [class - 1, x, y, width, height];
    rows of 0 follow the objects. Objects beyond 300 are left out.
    """

    def __init__(
        self, database: Database, layer: Message, phase: str, transform: Transform, seed: int
    ) -> None:
        resizes = list(layer.transform_param.resize_param_list)
        self._shares = np.cumsum([p.prob for p in resizes])
        total = float(self._shares[-1]) if resizes else 1.0
        if any(p.prob < 0 for p in resizes) or not _LEAST_SUM < total < _LARGEST_SUM:
            raise DataError(
                f"transform_param: the prob of its {len(resizes)} resize_param add up to "
                f"{total:g}, expected 1"
            )
        self._batch = max(1, int(layer.data_param.batch_size))
        parameter = layer.annotated_data_param
        self._difficult = bool(parameter.train_diffcult)
        super().__init__(database, layer, phase, transform, seed)
        if self.has_boxes and parameter.yolo_data_type == 1:
            self.label_type, self.label_shape = np.float32, (_MOST_OBJECTS * 5,)

    def read_steps(self, layer: Message, phase: str) -> list[ImageSteps]:
        parameter = layer.annotated_data_param
        samplers, found = list(parameter.batch_sampler), []
        for one in layer.transform_param.resize_param_list or [None]:
            p = type(layer.transform_param)()
            p.CopyFrom(layer.transform_param)
            if one is not None:
                p.resize_param.CopyFrom(one)
            found.append(YoloSteps(p, samplers, phase, parameter.yolo_data_jitter))
        return list(found)

    def steps_of(self, ordinal: int) -> ImageSteps:
        if len(self._steps) == 1:
            return self._steps[0]
        choices = SampleChoices(self._seed, ordinal // self._batch // _BATCHES_OF_ONE_SIZE)
        drawn = choices.uniform("size of images") * float(self._shares[-1])
        place = int(np.searchsorted(self._shares, drawn, side="right"))
        return self._steps[min(place, len(self._steps) - 1)]

    def label(self, sample: Sample, augmentation: Augmentation) -> ArrayLike:
        assert isinstance(sample, AnnotatedSample)
        if not self.label_shape:
            return super().label(sample, augmentation)
        rows: NDArray[np.float32] = self.seen_objects(sample, augmentation).rows()
        if not self._difficult:
            rows = rows[rows[:, 7] == 0]
        centre, size = (rows[:, 3:5] + rows[:, 5:7]) / 2, rows[:, 5:7] - rows[:, 3:5]
        lists = np.zeros((_MOST_OBJECTS, 5), np.float32)
        objects = np.concatenate([rows[:, 1:2] - 1, centre, size], 1)[:_MOST_OBJECTS]
        lists[: len(objects)] = objects
        return lists.ravel()
