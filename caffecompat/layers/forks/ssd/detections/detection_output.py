"""DetectionOutput: a net's predictions for prior boxes as detections."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from caffecompat.layers._base import Layer, Message, Shape, between, format_shape, register
from caffecompat.layers._batch_source import errors_at
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd._box_codes import decode, split_priors
from caffecompat.layers.forks.ssd.detections._detection_files import (
    FORMATS,
    SAVE_FIELDS,
    DetectionFiles,
)
from caffecompat.layers.forks.ssd.detections._detections import DetectionOptions, Floats, detect
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    from torch import Tensor

_KNOWN = (
    *("num_classes", "share_location", "background_label_id", "nms_param", "save_output_param"),
    *("code_type", "keep_top_k", "variance_encoded_in_target", "confidence_threshold"),
    *("visualize", "visualize_threshold", "save_file", "objectness_score", "use_polygon"),
    # Which implementation runs; the values are the same.
    "engine",
)


# For x1, y1 ... x4, y4 of a quadrilateral, clockwise from the top left: the side of the prior.
_CORNERS = (0, 1, 2, 1, 2, 3, 0, 3)


@register("DetectionOutput", fork="SSD, RefineDet, TextBoxes++")
class DetectionOutput(Layer):
    """Rows [image, class, score, xmin, ymin, xmax, ymax], relative to the image.

    Top: (1, 1, K, 7). Bottoms: locations (N, 4 * P * L), with L = 1 or, without ``share_location``,
    the number of classes; scores (N, P * classes) after the softmax; priors (1, 2, 4 * P), see
    PriorBox. An image may follow; nothing is read from it. RefineDet gives its first stage's
    probabilities (N, 2 * P) instead, and its locations (N, 4 * P): a box that is an object with
    less than ``objectness_score`` is background, and the first stage's boxes replace the priors.

    Of each class but the background the boxes with a score above ``confidence_threshold``, at most
    ``nms_param.top_k``, pass non-maximum suppression; of an image at most ``keep_top_k`` are kept.
    Rows are sorted by image, class and falling score. Without any detection there is a row of -1
    for each image, with the image's number. When the net is built K is 1.

    With TextBoxes++'s ``use_polygon: true`` the locations are (N, 12 * P): after the four numbers
    of the box those of a quadrilateral, x1, y1 ... x4, y4, clockwise from the top left. Rows have
    15 columns then, the last eight its corners: a corner of the prior plus variance * prediction *
    side. It needs ``code_type: CENTER_SIZE`` and shared locations.

    With ``save_output_param`` the layer writes the files that SSD writes, with boxes only.
    ``visualize`` has no effect; ``caffecompat detect`` draws pictures. Source: the DetectionOutput
    layers of SSD, RefineDet and TextBoxes++.
    """

    bottoms = between(3, 5)
    in_place = False
    differentiable = (False,)
    fork_fields = ("detection_output_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.detection_output_param
        refuse_other_fields(self, "detection_output_param", p, _KNOWN)
        self.check(p.num_classes > 0, "detection_output_param has no num_classes; give it")
        nms = p.nms_param
        self.check(
            nms.nms_threshold >= 0,
            f"nms_param: nms_threshold is {nms.nms_threshold:g}, expected 0 or more",
        )
        self.check(0 < nms.eta <= 1, f"nms_param: eta is {nms.eta:g}, expected above 0, up to 1")
        self.classes = int(p.num_classes)
        self.location_classes = 1 if p.share_location else self.classes
        self.code = enum_name(p, "code_type")
        self.variance_in_target = bool(p.variance_encoded_in_target)
        self.objectness = float(p.objectness_score)
        limited = p.HasField("confidence_threshold")
        self.options = DetectionOptions(
            background=p.background_label_id,
            threshold=p.confidence_threshold if limited else float("-inf"),
            nms_threshold=nms.nms_threshold,
            eta=nms.eta,
            top_k=nms.top_k if nms.HasField("top_k") else -1,
            keep_top_k=p.keep_top_k,
        )
        # A fourth bottom with four axes is the image that SSD draws detections into.
        self.stages = len(bottoms) - 3 if len(bottoms[-1]) != 4 else 0
        self.polygons = bool(p.HasField("use_polygon") and p.use_polygon)
        self.check(
            not self.polygons
            or (
                self.code == "CENTER_SIZE"
                and bool(p.share_location)
                and not (self.variance_in_target or self.stages)
            ),
            "use_polygon needs code_type CENTER_SIZE and shared locations, and neither "
            "variance_encoded_in_target nor further bottoms",
        )
        self.per_box = 12 if self.polygons else 4
        if p.visualize:
            self.note("visualize has no effect; caffecompat detect --picture draws detections")
        self.files = self._open_files(p.save_output_param)

    def _open_files(self, p: Message) -> DetectionFiles | None:
        if not p.output_directory:
            return None
        refuse_other_fields(self, "save_output_param", p, SAVE_FIELDS)
        if not p.label_map_file or not p.name_size_file:
            self.note("save_output_param needs label_map_file and name_size_file; nothing is saved")
            return None
        self.check(
            p.output_format in FORMATS,
            f"save_output_param: output_format is {p.output_format!r}, expected one of "
            f"{', '.join(FORMATS)}",
        )
        if self.context.options.shapes_only:
            return None
        self.keeps_state, self.can_be_restored = True, False
        with errors_at(self.context.place):
            return DetectionFiles(p, self.options.background, self.context.options.max_bytes)

    def infer(self, *bottoms: Tensor) -> Tensor:
        self._check_shapes([bottom.shape for bottom in bottoms])
        return bottoms[0].new_empty(self._shape_when_built)

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        self._check_shapes(bottoms)
        return [self._shape_when_built]

    @property
    def _shape_when_built(self) -> Shape:
        return (1, 1, 1, 3 + self.per_box)

    def forward(self, *bottoms: Tensor) -> Tensor:
        import torch

        self._check_shapes([bottom.shape for bottom in bottoms])
        scores, boxes = self._scores(bottoms), self._boxes(bottoms)
        polygons = self._polygons(bottoms) if self.polygons else [None] * len(scores)
        rows = []
        for image, (own, places) in enumerate(zip(scores, boxes, strict=True)):
            found = detect(own, places, self.options, polygons[image])
            if self.files is not None:
                with errors_at(self.context.place):
                    self.files.add(found[:, :6])
            rows.append(np.insert(found, 0, image, axis=1))
        every = np.concatenate(rows)
        if not len(every):
            every = np.full((len(rows), 3 + self.per_box), -1, np.float32)
            every[:, 0] = np.arange(len(rows))
        return torch.from_numpy(every[None, None]).to(bottoms[0])

    def _scores(self, bottoms: Sequence[Tensor]) -> Floats:
        """The scores of all boxes, (N, P, classes)."""
        count = len(bottoms[1])
        found: Floats = bottoms[1].detach().reshape(count, -1, self.classes).float().cpu().numpy()
        if self.stages:
            first = bottoms[3].detach().reshape(count, -1, 2)[..., 1].float().cpu().numpy()
            nothing = np.zeros(self.classes, np.float32)
            nothing[0] = 1
            unlikely = first < np.float32(self.objectness)
            found = np.where(unlikely[..., None], nothing, found)
        return found

    def _boxes(self, bottoms: Sequence[Tensor]) -> Floats:
        """The boxes of all classes, (N, P, L, 4)."""
        count = len(bottoms[0])
        priors, variances = split_priors(bottoms[2])
        factors = None if self.variance_in_target else variances
        if self.stages > 1:
            first = bottoms[4].detach().reshape(count, -1, 4)
            priors = decode(self.code, first, priors, factors)
        shape = (count, len(variances), self.location_classes, self.per_box)
        values = bottoms[0].detach().reshape(shape)[..., :4]
        apart = None if factors is None else factors[:, None]
        boxes = decode(self.code, values, priors[..., None, :], apart)
        found: Floats = boxes.float().cpu().numpy()
        return found

    def _polygons(self, bottoms: Sequence[Tensor]) -> Floats:
        """The corners of the quadrilaterals, (N, P, 8)."""
        priors, variances = split_priors(bottoms[2])
        values = bottoms[0].detach().reshape(len(bottoms[0]), len(variances), self.per_box)
        sides = (priors[..., 2:] - priors[..., :2]) * variances[..., :2]
        corners = values[..., 4:] * sides.repeat(1, 4) + priors[..., list(_CORNERS)]
        found: Floats = corners.float().cpu().numpy()
        return found

    def _check_shapes(self, bottoms: Sequence[Sequence[int]]) -> None:
        locations, scores, priors = bottoms[:3]
        self.check(
            len(priors) == 3 and tuple(priors[:2]) == (1, 2) and priors[2] % 4 == 0,
            f"the priors are {format_shape(priors)}, expected (1, 2, 4 * boxes)",
        )
        boxes = priors[2] // 4
        blobs = [locations, scores, *bottoms[3 : 3 + self.stages]]
        sizes = (self.per_box * self.location_classes, self.classes, 2, 4)
        names = ("locations", "scores", "first stage's scores", "first stage's locations")
        for name, blob, size in zip(names, blobs, sizes, strict=False):
            expected = (*locations[:1], boxes * size)
            self.check(
                tuple(blob[:1]) == expected[:1] and prod(blob) == expected[0] * expected[1],
                f"the {name} are {format_shape(blob)}, but {boxes} priors need "
                f"{format_shape(expected)}; do the prior boxes and num_classes fit the net? (A "
                "net of FaceBoxes needs dialect='faceboxes'.)",
            )
