"""Proposal of PVANet: proposals of a region proposal network."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks.rcnn._anchors import base_anchors, round_half_up
from caffecompat.layers.forks.rcnn.proposals._proposals import ImageProposals, ProposalSettings

_OTHER_FIELDS = (
    "anchor_base_size",
    "anchor_ratio",
    "anchor_scale",
    "max_rois",
    "rpn_min_size",
    "rpn_nms_thresh",
)


@register("Proposal", fork="PVANet, mini-caffe")
class Proposal(ImageProposals):
    """The best boxes of one image, from scores and deltas at each anchor.

    Bottoms: scores (1, 2A, H, W), the second half of the channels those of objects; deltas
    (1, 4A, H, W); and [height, width, scale] of the image, where a fourth number is another scale
    of the width. Tops: (R, 5) with rows [0, x1, y1, x2, y2], and the scores (R).

    Anchors have the ``ratio`` values, height by width, and the ``scale`` values, and are
    ``feat_stride`` pixels apart. A box that is smaller than ``min_size`` times the image's scale
    gets the score 0, so that it comes last. Of the best ``pre_nms_topn`` boxes those are dropped
    that overlap a better one by more than ``nms_thresh``, and up to ``post_nms_topn`` stay. When
    the net is built the tops have post_nms_topn rows. Of equal scores the earlier position is
    first; Caffe's order is not defined. Source: proposal_layer of PVANet.
    """

    fork_fields = ("proposal_param",)
    score_axes = ()

    @classmethod
    def fits(cls, message: Message) -> bool | None:
        p = message.proposal_param
        if any(p.HasField(name) for name in _OTHER_FIELDS):
            return False
        return bool(p.ratio or p.scale)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.proposal_param
        self.check(
            bool(p.ratio) and bool(p.scale) and all(ratio > 0 for ratio in p.ratio),
            f"proposal_param has {len(p.ratio)} ratio and {len(p.scale)} scale values; it needs "
            "at least one of each, and positive ratios",
        )
        anchors = base_anchors(p.base_size, p.ratio, p.scale, round_half_up)
        self.made = ProposalSettings(
            anchors,
            p.feat_stride,
            p.pre_nms_topn,
            p.post_nms_topn,
            p.nms_thresh,
            least=p.min_size,
            drops_small=False,
            two_scales=True,
        )
        self.check(p.post_nms_topn > 0, "post_nms_topn is 0, it must be positive")
        self.with_scores = len(message.top) > 1

    @property
    def rows_when_built(self) -> int:
        return self.made.after
