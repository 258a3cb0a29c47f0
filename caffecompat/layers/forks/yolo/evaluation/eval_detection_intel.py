"""EvalDetection of Intel's Caffe: the best class of each box, and which are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, register
from caffecompat.layers.forks.yolo.evaluation._evaluation import Detections, score
from caffecompat.layers.forks.yolo.evaluation._region_evaluation import (
    LEAST_SCORE,
    RegionEvaluation,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("EvalDetection", fork="Intel")
class EvalDetectionOfBestClass(RegionEvaluation):
    """As YOLO9000's, but each box counts for its most likely class only.

    Bottoms and top are the same. Of all boxes of an image, those that overlap a better one by
    ``nms`` or more are dropped, whatever their classes, and then all with a score below 0.005.
    Source: eval_detection_layer of Intel's Caffe.
    """

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.eval_detection_param
        return False if not p.biases or p.HasField("save_output_param") else None

    def found(self, boxes: Tensor, certain: Tensor, shares: Tensor) -> Detections:
        share, label = shares.max(1)
        every = Detections(label, score(self.p, certain, share), boxes).sorted()
        kept = every.suppressed(self.p.nms)
        return kept.at(kept.scores >= LEAST_SCORE)
