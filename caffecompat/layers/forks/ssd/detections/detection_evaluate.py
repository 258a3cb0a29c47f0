"""DetectionEvaluate: which detections are right, for the mean average precision of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffecompat.data.boxes import falling, overlaps
from caffecompat.data.image_sizes import ImageSize, read_image_sizes
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd._ground_truth import Truth, read_truth
from caffecompat.layers.forks.ssd.detections._pixels import to_pixels

if TYPE_CHECKING:
    from torch import Tensor

_KNOWN = (
    *("num_classes", "background_label_id", "overlap_threshold", "evaluate_difficult_gt"),
    *("name_size_file", "resize_param"),
)
Rows = NDArray[np.float32]


@register("DetectionEvaluate", fork="SSD, RefineDet")
class DetectionEvaluate(Layer):
    """Compares detections with the ground truth.

    Bottoms: the top of DetectionOutput (1, 1, K, 7), and the ground truth (1, 1, G, 8) with rows
    [image, class, instance, xmin, ymin, xmax, ymax, difficult]. Top (1, 1, classes + K, 5): for
    each class but the background a row [-1, class, number of objects, -1, -1], then for each
    detection [image, class, score, true positive, false positive]. A detection is a true positive
    if the object of its image and class that it overlaps most overlaps it by ``overlap_threshold``
    or more, and no detection with a larger score has found that object. With
    ``evaluate_difficult_gt: false`` difficult objects do not count, and a detection of one is
    neither: 0, 0.

    With ``name_size_file`` overlaps are those of boxes in pixels, whose last row and column count.
    Its lines are the images with detections, in order, and start again after the last, as in SSD.
    A solver with ``eval_type: "detection"`` makes the mean average precision of the rows.
    Source: SSD's DetectionEvaluate layer.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("detection_evaluate_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.detection_evaluate_param
        refuse_other_fields(self, "detection_evaluate_param", p, _KNOWN)
        self.check(p.num_classes > 0, "detection_evaluate_param has no num_classes; give it")
        self.check(
            p.overlap_threshold > 0,
            f"detection_evaluate_param: overlap_threshold is {p.overlap_threshold:g}, expected a "
            "positive number",
        )
        self.classes, self.background = int(p.num_classes), int(p.background_label_id)
        self.threshold = np.float32(p.overlap_threshold)
        self.count_difficult = bool(p.evaluate_difficult_gt)
        self.resize = p.resize_param if p.HasField("resize_param") else None
        self.sizes: list[ImageSize] = []
        # The position in the list of sizes of the next image.
        self.state = 0
        if p.name_size_file and not self.context.options.shapes_only:
            self.keeps_state = True
            with errors_at(self.context.place):
                limit = self.context.options.max_bytes
                self.sizes = read_image_sizes(p.name_size_file, limit)

    def infer(self, detections: Tensor, truth: Tensor) -> Tensor:
        self._check_shapes(detections, truth)
        rows = len(self._labels()) + detections.shape[2]
        return detections.new_empty((1, 1, rows, 5))

    def forward(self, detections: Tensor, truth: Tensor) -> Tensor:
        import torch

        self._check_shapes(detections, truth)
        objects = read_truth(self, truth, self.classes, self.background)
        rows = self._object_counts(objects)
        every = detections.detach()[0, 0].float().cpu().numpy()
        for image in np.unique(every[every[:, 0] != -1, 0]):
            own = every[every[:, 0] == image]
            rows += self._of_image(own[own[:, 1] != -1], objects.get(int(image)))
            if self.sizes:
                self.state = (self.state + 1) % len(self.sizes)
        return torch.from_numpy(np.concatenate(rows)[None, None]).to(detections)

    def _labels(self) -> list[int]:
        return [label for label in range(self.classes) if label != self.background]

    def _object_counts(self, truth: dict[int, Truth]) -> list[Rows]:
        """The rows with the number of objects of each class."""
        counts = np.zeros(self.classes, np.int64)
        for one in truth.values():
            counted = one.labels if self.count_difficult else one.labels[~one.difficult]
            np.add.at(counts, counted, 1)
        rows = [[-1, label, counts[label], -1, -1] for label in self._labels()]
        return [np.array(rows, np.float32).reshape(-1, 5)]

    def _of_image(self, detections: Rows, truth: Truth | None) -> list[Rows]:
        """The rows of the detections of one image."""
        rows = []
        for label in np.unique(detections[:, 1]):
            own = detections[detections[:, 1] == label]
            objects = None if truth is None else np.flatnonzero(truth.labels == int(label))
            if objects is None or not len(objects):
                verdicts = np.tile(np.array([0, 1], np.float32), (len(own), 1))
            else:
                assert truth is not None
                own = own[falling(own[:, 2])]
                verdicts = self._verdicts(
                    own[:, 3:], truth.boxes[objects], truth.difficult[objects]
                )
            rows.append(np.concatenate([own[:, :3], verdicts], 1))
        return rows

    def _verdicts(self, boxes: Rows, objects: Rows, difficult: NDArray[np.bool_]) -> Rows:
        """True and false positive, (K, 2), of detections by falling score."""
        if self.sizes:
            size = self.sizes[self.state]
            boxes, objects = (
                to_pixels(one, size.height, size.width, self.resize) for one in (boxes, objects)
            )
        shared = overlaps(boxes, objects, extra=1.0 if self.sizes else 0.0)
        best = shared.argmax(1)
        verdicts = np.zeros((len(boxes), 2), np.float32)
        taken = np.zeros(len(objects), bool)
        for index, one in enumerate(best.tolist()):
            if shared[index, one] < self.threshold:
                verdicts[index, 1] = 1
            elif self.count_difficult or not difficult[one]:
                verdicts[index, int(taken[one])] = 1
                taken[one] = True
        return verdicts

    def _check_shapes(self, detections: Tensor, truth: Tensor) -> None:
        for name, blob, width in (("detections", detections, 7), ("ground truth", truth, 8)):
            self.check(
                blob.dim() == 4 and blob.shape[:2] == (1, 1) and blob.shape[3] == width,
                f"the {name} are {format_shape(blob.shape)}, expected (1, 1, rows, {width})",
            )
