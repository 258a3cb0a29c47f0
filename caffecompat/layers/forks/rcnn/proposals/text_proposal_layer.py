"""ProposalLayer of CTPN: boxes of text, all of one width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, exactly, format_shape
from caffecompat.layers._python_equivalent import (
    REQUIRED,
    PythonEquivalent,
    register_python_layer,
)
from caffecompat.layers.forks.rcnn._anchors import anchors_of_map, by_position
from caffecompat.layers.forks.rcnn._one_image import OneImage

if TYPE_CHECKING:
    from torch import Tensor

_WIDTH = 16
_HEIGHTS = (11, 16, 23, 33, 48, 68, 97, 139, 198, 283)


@register_python_layer(("layers.text_proposal_layer", "ProposalLayer"), fork="CTPN")
class TextProposalLayer(OneImage, PythonEquivalent):
    """A box for each of ten anchors at each position of a map, moved and resized up and down.

    Bottoms: scores (1, 20, H, W), the second half of the channels those of text; deltas
    (1, 20, H, W), for each anchor that of the centre and the logarithm of the factor of the height;
    and [height, width, scale] of the image. Tops: boxes (10 * H * W, 4), [x1, y1, x2, y2] in pixels
    of the image, and their scores (10 * H * W, 1).

    Anchors are 16 pixels wide, from 11 to 283 pixels high, and ``feat_stride`` pixels apart, a key
    of ``param_str``. Boxes are cut at the image's edges; none is dropped. Source:
    src/layers/text_proposal_layer.py and anchor.py of CTPN.
    """

    bottoms = exactly(3)
    tops = exactly(2)
    uses_host = True
    options = {"feat_stride": REQUIRED}

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        self.read_options(message)
        middle = (_WIDTH - 1) / 2
        # The original keeps corners as whole numbers, cut toward zero, after halving whole heights.
        self.anchors = [
            [int(middle + sign * (side // 2)) for sign in (-1, 1) for side in (_WIDTH, high)]
            for high in _HEIGHTS
        ]

    def forward(self, scores: Tensor, deltas: Tensor, info: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        count = len(_HEIGHTS)
        self.check(
            scores.dim() == 4
            and tuple(scores.shape[:2]) == (1, 2 * count)
            and deltas.shape == scores.shape
            and info.numel() >= 2,
            f"its bottoms are {format_shape(scores.shape)}, {format_shape(deltas.shape)} and "
            f"{format_shape(info.shape)}; expected two of 1 x {2 * count} x H x W, and "
            "[height, width, scale]",
        )
        found = scores.detach()[:, count:]
        height, width = found.shape[2:]
        anchors = anchors_of_map(self.anchors, height, width, self.given["feat_stride"], found)
        x1, y1, x2, y2 = anchors.unbind(1)
        move, factor = by_position(deltas.detach(), 2).unbind(1)
        high = factor.exp() * (y2 - y1 + 1)
        top = move * (y2 - y1 + 1) + (y1 + y2) / 2 - high / 2
        size = info.detach().reshape(-1)[:2] - 1
        most = torch.stack([size[1], size[0], size[1], size[0]])
        boxes = torch.minimum(torch.stack([x1, top, x2, top + high], 1), most).clamp(min=0)
        return boxes, by_position(found, 1).contiguous()
