"""EvalDetection of YOLO9000: the detections of each class in an image, and which are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.yolo.evaluation._evaluation import Detections, score
from caffecompat.layers.forks.yolo.evaluation._region_evaluation import (
    LEAST_SCORE,
    RegionEvaluation,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("EvalDetection", fork="YOLO9000")
class EvalDetection(RegionEvaluation):
    """For each image the number of objects of each class, then the detections.

    Bottoms: maps (N, num_object * (5 + num_class), S, S) as RegionLoss takes them, and labels
    (1, 1, G, 8) of AnnotatedData, whose class 0 is the background; further ones are not read. Top:
    (N, num_class + 4 S S num_object): counts of objects, then rows [class, score, true, false] by
    class and falling score, and zeros.

    Each box counts once for each class whose share times objectness is above 0.005; its score is
    that product, or one of its factors (``score_type`` OBJ or PROB). Of a class, boxes that overlap
    a better one by ``nms`` or more are dropped, and all with a score below 0.005. A detection is
    true if the object of its class that it overlaps most overlaps it by ``threshold`` and is not
    taken; false if that object is taken, or the image has none of the class; otherwise it is
    neither. ``save_output_param``, which writes the boxes into a file, is refused.
    Source: eval_detection_layer of caffe-yolo9000.
    """

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.eval_detection_param
        if not p.biases:
            return False
        return p.HasField("save_output_param") or None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        super().setup(message, bottoms)
        self.check(
            not self.p.HasField("save_output_param"),
            "save_output_param is not supported; remove it, and state dialect='yolo9000' "
            "(--dialect yolo9000), since no other field tells this layer from Intel's",
        )

    def found(self, boxes: Tensor, certain: Tensor, shares: Tensor) -> Detections:
        import torch

        counts = (certain[:, None] * shares > LEAST_SCORE) & (certain[:, None] >= LEAST_SCORE)
        box, label = counts.nonzero(as_tuple=True)
        scores = score(self.p, certain[box], shares[box, label])
        every = Detections(label, scores, boxes[box]).sorted()
        kept = [
            every.at(every.labels == one).suppressed(self.p.nms)
            for one in every.labels.unique().tolist()
        ]
        if not kept:
            return every
        joined = Detections(
            torch.cat([one.labels for one in kept]),
            torch.cat([one.scores for one in kept]),
            torch.cat([one.boxes for one in kept]),
        )
        return joined.at(joined.scores >= LEAST_SCORE)
