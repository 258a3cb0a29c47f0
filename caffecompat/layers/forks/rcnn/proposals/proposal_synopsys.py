"""Proposal of Synopsys' Caffe: proposals of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, exactly, register
from caffecompat.layers.forks.rcnn._anchors import base_anchors, round_half_up
from caffecompat.layers.forks.rcnn.proposals._proposals import ImageProposals, ProposalSettings

_OTHER_FIELDS = ("base_size", "min_size", "post_nms_topn", "nms_thresh")
_THREE = 3


@register("Proposal", fork="Synopsys")
class Proposal(ImageProposals):
    """The best boxes of one image, from scores and deltas at each anchor.

    Bottoms: scores (1, 2A, H, W), the second half of the channels those of objects; deltas
    (1, 4A, H, W); and [height, width, scale] of the image. Tops: (R, 5) with rows
    [0, x1, y1, x2, y2], and the scores (R, 1).

    ``anchor_ratio`` and ``anchor_scale`` are numbers of values: 3 means the ratios 0.5, 1 and 2,
    and the scales 8, 16 and 32; any other number means the ratio 1, and the scale 32. Boxes smaller
    than ``rpn_min_size`` times the image's scale are dropped. Of the best ``pre_nms_topn`` those
    are dropped that overlap a better one by more than ``rpn_nms_thresh``, and up to ``max_rois``
    stay. When the net is built the tops have one row. Of equal scores the earlier position is
    first. Source: proposal_layer of Synopsys' Caffe, which always keeps the last box whatever its
    size.
    """

    bottoms = exactly(3)
    fork_fields = ("proposal_param",)

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.proposal_param
        if p.ratio or p.scale or any(p.HasField(name) for name in _OTHER_FIELDS):
            return False
        return None

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.proposal_param
        ratios = (0.5, 1, 2) if p.anchor_ratio == _THREE else (1,)
        scales = (8, 16, 32) if p.anchor_scale == _THREE else (32,)
        anchors = base_anchors(p.anchor_base_size, ratios, scales, round_half_up)
        self.made = ProposalSettings(
            anchors,
            p.feat_stride,
            p.pre_nms_topn,
            p.max_rois,
            p.rpn_nms_thresh,
            least=p.rpn_min_size,
        )
        self.with_scores = len(message.top) > 1
