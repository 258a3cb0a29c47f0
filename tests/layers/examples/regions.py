"""Pooling of regions of interest, and their losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from tests.layers.strategies import (
    ELSEWHERE,
    Bottom,
    Draw,
    Example,
    example_of,
    fields,
    plane,
)

ELSEWHERE.update(
    dict.fromkeys(
        [
            "Proposal (PVANet, mini-caffe)",
            "Proposal (Synopsys)",
            "Python (ProposalLayer of py-faster-rcnn)",
            "Python (AnchorTargetLayer of py-faster-rcnn)",
            "Python (ProposalTargetLayer of py-faster-rcnn)",
            "Python (ProposalLayer of CTPN)",
            "Python (RoIDataLayer of py-faster-rcnn)",
        ],
        "its bottoms are maps of anchors that fit each other, see forks/rcnn/test_proposals",
    )
)


@dataclass(frozen=True)
class Regions(Bottom):
    """Rows [image, x1, y1, x2, y2] in the plane of ``size``, some of them partly outside."""

    kind: str = "regions"
    images: int = 1
    size: tuple[int, int] = (8, 8)

    def tensor(self, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        rows = self.shape[0]
        image = torch.randint(self.images, (rows, 1), generator=generator).to(dtype)
        high, wide = self.size
        extent = torch.tensor([wide, high, wide, high], dtype=dtype)
        corners = torch.rand((rows, 2, 2), generator=generator, dtype=dtype) * 1.4 - 0.2
        low, most = corners.amin(1), corners.amax(1)
        return torch.cat([image, torch.cat([low, most], 1) * extent], 1)


def regions_of(draw: Draw, shape: tuple[int, ...], stride: int) -> Regions:
    n, _, h, w = shape
    rows = draw(st.sampled_from([0, 1, 6]))
    return Regions((rows, 5), images=n, size=(h * stride, w * stride))


@example_of("ROIPooling")
def roi_pooling(draw: Draw) -> Example:
    shape, stride = plane(draw), draw(st.sampled_from([1, 4]))
    text = fields(
        "roi_pooling_param",
        pooled_h=draw(st.integers(1, 4)),
        pooled_w=draw(st.integers(1, 4)),
        spatial_scale=1 / stride,
        pad_ratio=draw(st.sampled_from([None, 0.25])),
    )
    return Example(text, (Bottom(shape), regions_of(draw, shape, stride)))


@example_of("ROIAlign")
def roi_align(draw: Draw) -> Example:
    shape, stride = plane(draw), draw(st.sampled_from([1, 4]))
    text = fields(
        "roi_pooling_param",
        pooled_h=draw(st.integers(1, 4)),
        pooled_w=draw(st.integers(1, 4)),
        spatial_scale=1 / stride,
        pad_ratio=draw(st.sampled_from([None, 0.25])),
    )
    return Example(text, (Bottom(shape), regions_of(draw, shape, stride)))


@example_of("PSROIPooling")
def psroi_pooling(draw: Draw) -> Example:
    n, _, h, w = plane(draw)
    bins, outputs = draw(st.sampled_from([(1, 2), (2, 3), (3, 1)]))
    stride = draw(st.sampled_from([1, 4]))
    shape = (n, bins * bins * outputs, h, w)
    text = fields(
        "psroi_pooling_param", output_dim=outputs, group_size=bins, spatial_scale=1 / stride
    )
    return Example(text, (Bottom(shape), regions_of(draw, shape, stride)))


@example_of("SmoothL1LossOHEM")
def smooth_l1_loss_ohem(draw: Draw) -> Example:
    shape = draw(st.sampled_from([(3, 8), (2, 4, 1, 3), (1, 2, 3, 2)]))
    modes = ["FULL", "VALID", "BATCH_SIZE", "NONE", "PRE_FIXED pre_fixed_normalizer: 7"]
    mode = draw(st.sampled_from(modes))
    bottoms = [Bottom(shape), Bottom(shape)]
    return Example(
        f"loss_param {{ normalization: {mode} }}", tuple(bottoms), tops=draw(st.integers(1, 2))
    )


@example_of("SoftmaxWithLossOHEM")
def softmax_with_loss_ohem(draw: Draw) -> Example:
    n, c, *rest = draw(st.sampled_from([(3, 4), (2, 3, 1, 4)]))
    mode = draw(st.sampled_from(["VALID", "NONE", "PRE_FIXED pre_fixed_normalizer: 7"]))
    ignored = draw(st.sampled_from(["", "ignore_label: 1"]))
    bottoms = (Bottom((n, c, *rest)), Bottom((n, *rest), "labels", c))
    text = f"loss_param {{ normalization: {mode} {ignored} }}"
    return Example(text, bottoms, tops=draw(st.integers(1, 3)))


@example_of("BoxAnnotatorOHEM")
def box_annotator_ohem(draw: Draw) -> Example:
    rows = draw(st.sampled_from([1, 7]))
    bottoms = (
        Regions((rows, 5), images=2),
        Bottom((rows,), "positive"),
        Bottom((rows,)),
        Bottom((rows, 8)),
    )
    return Example("box_annotator_ohem_param { roi_per_img: 2 }", bottoms, tops=2)
