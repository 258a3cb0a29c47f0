"""FlowAugmentation: the flow between two images that DataAugmentation has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers.forks.flow.augmentation import _coefficients as coefficients

if TYPE_CHECKING:
    from torch import Tensor


@register("FlowAugmentation", fork="FlowNet")
class FlowAugmentation(Layer):
    """The flow (N, 2, H, W) in the crops of two images with the coefficients of two more bottoms.

    Top (N, 2, ``crop_height``, ``crop_width``). A pixel p of the first crop lies at M1 p in the
    first image; the flow there is that of the nearest pixel; the end of that flow is a position in
    the second image, and lies in the second crop at the inverse of M2. The top is that position
    less p. M1 and M2 are the maps of DataAugmentation, for the coefficients (N, 42, 1, 1).

    The original reads memory at random where M1 p is outside of the image; here the nearest pixel
    of the border counts. There is no gradient. Source: FlowNet 2's FlowAugmentation layer.
    """

    bottoms = exactly(3)
    in_place = False
    fork_fields = ("augmentation_param",)
    param_fields = ("augmentation_param",)
    differentiable = (False,)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.augmentation_param
        self.crop = (p.crop_height, p.crop_width)
        self.check(min(self.crop) > 0, "crop_width and crop_height must be at least 1")

    def forward(self, flow: Tensor, first: Tensor, second: Tensor) -> Tensor:
        import torch

        self.check(
            flow.dim() == 4 and flow.shape[1] == 2,
            f"the flow is {format_shape(flow.shape)}, it must be (N, 2, H, W)",
        )
        kind, flow = flow.dtype, flow.detach()
        if kind in (torch.float16, torch.bfloat16):
            flow = flow.float()
        height, width = flow.shape[2:]
        x, y = coefficients.grid(flow, self.crop)
        across, down = coefficients.apply(self._matrix(flow, first), x, y)
        # The original rounds with a conversion to an integer, towards zero.
        column = (across + 0.5).trunc().clamp(0, width - 1).long()
        row = (down + 0.5).trunc().clamp(0, height - 1).long()
        index = (row * width + column).flatten(1).unsqueeze(1).expand(-1, 2, -1)
        moved = flow.flatten(2).gather(2, index).view(len(flow), 2, *self.crop)
        across, down = coefficients.apply(
            coefficients.inverse(self._matrix(flow, second)),
            across + moved[:, 0],
            down + moved[:, 1],
        )
        return torch.stack([across - x, down - y], 1).to(kind)

    def _matrix(self, flow: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
        count = len(coefficients.NAMES)
        self.check(
            rows.numel() == len(flow) * count,
            f"the flow is {format_shape(flow.shape)} and coefficients are "
            f"{format_shape(rows.shape)}; they must be {count} for each sample",
        )
        values = coefficients.decode(rows.detach().reshape(len(flow), count).to(flow.dtype))
        return coefficients.matrices(values, self.crop, (flow.shape[2], flow.shape[3]))
