"""ProposalLayer of py-faster-rcnn: proposals of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape
from caffecompat.layers._python_equivalent import (
    REQUIRED,
    Phases,
    PythonEquivalent,
    register_python_layer,
)
from caffecompat.layers.forks.rcnn._anchors import base_anchors
from caffecompat.layers.forks.rcnn.proposals._proposals import ImageProposals, ProposalSettings

RATIOS = (0.5, 1, 2)
SCALES = (8, 16, 32)
BASE_SIZE = 16


@register_python_layer(
    ("rpn.proposal_layer", "ProposalLayer"),
    ("lib.rpn.proposal_layer", "ProposalLayer"),
    fork="py-faster-rcnn",
)
class ProposalLayer(ImageProposals, PythonEquivalent):
    """The best boxes of one image, from scores and deltas at each anchor.

    Bottoms: scores (1, 2A, H, W), the second half of the channels those of objects; deltas
    (1, 4A, H, W); and [height, width, scale] of the image. Tops: (R, 5) with rows
    [0, x1, y1, x2, y2], and the scores (R, 1).

    Keys of ``param_str``: ``feat_stride``, the pixels between anchors; ``scales`` (8, 16, 32),
    ``ratios`` (0.5, 1, 2) and ``base_size`` (16) of the anchors; and, with the configuration's
    names and default values, ``RPN_PRE_NMS_TOP_N`` (12000 in TRAIN, 6000 in TEST),
    ``RPN_POST_NMS_TOP_N`` (2000, 300), ``RPN_NMS_THRESH`` (0.7) and ``RPN_MIN_SIZE`` (16).

    Boxes are cut at the image's edges; those smaller than RPN_MIN_SIZE times the image's scale are
    dropped. Of the best RPN_PRE_NMS_TOP_N those are dropped that overlap a better one by more than
    RPN_NMS_THRESH, and up to RPN_POST_NMS_TOP_N stay. When the net is built the tops have one row.
    Of equal scores the earlier position is first; the original's order is not defined. Source:
    rpn/proposal_layer.py of py-faster-rcnn.
    """

    options = {
        "feat_stride": REQUIRED,
        "scales": SCALES,
        "ratios": RATIOS,
        "base_size": BASE_SIZE,
        "RPN_PRE_NMS_TOP_N": Phases(12000, 6000),
        "RPN_POST_NMS_TOP_N": Phases(2000, 300),
        "RPN_NMS_THRESH": 0.7,
        "RPN_MIN_SIZE": 16,
    }

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_options(message)
        given = self.given
        self.made = ProposalSettings(
            anchors=base_anchors(given["base_size"], given["ratios"], given["scales"]),
            stride=given["feat_stride"],
            before=int(given["RPN_PRE_NMS_TOP_N"]),
            after=int(given["RPN_POST_NMS_TOP_N"]),
            threshold=given["RPN_NMS_THRESH"],
            least=given["RPN_MIN_SIZE"],
        )
        self.with_scores = len(message.top) > 1
