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
        ],
        "its bottoms are maps of anchors that fit each other, see test_rcnn_proposals",
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
