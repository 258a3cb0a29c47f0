"""BoxUpsample: regions of feature maps, resized to one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._bad_index import explaining_bad_index
from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register
from caffecompat.layers._repeatable_gradients import gathered, selected

if TYPE_CHECKING:
    from torch import Tensor


@register("BoxUpsample", fork="SDS, hypercolumns")
class BoxUpsample(Layer):
    """A group of channels in a box of a map, bilinearly resized.

    Bottoms: maps (L, C, H, W) and boxes (R, 6, ...) with rows [map, group, x1, y1, x2, y2],
    coordinates relative to the map's width and height, x2 and y2 excluded. Top: (R, ``channels``,
    ``height``, ``width``): the channels from group ``channels`` on. Pixel i of h rows is at
    (y1 + (i + 1/2) (y2 - y1) / h) H - 1/2, columns likewise; neighbours beyond the map are those at
    its edge. Boxes get no gradient; that of the maps is the derivative of the forward pass, while
    the original leaves out the last row and column of each pixel's reach on the CPU. Source:
    box_upsample_layer.cu of the Caffe of hypercolumns.
    """

    bottoms = exactly(2)
    in_place = False
    differentiable = (True, False)
    fork_fields = ("box_upsample_param",)
    batch_coupling = "takes regions from all maps of the batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.box_upsample_param
        self.check(
            min(p.width, p.height, p.channels) > 0,
            "box_upsample_param: width, height and channels must be given and positive",
        )
        self.channels, self.size = int(p.channels), (int(p.height), int(p.width))

    def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
        self._check_shapes(maps, boxes)
        rows = boxes.detach().reshape(boxes.shape[0], 6)
        planes = self._planes(maps, rows)
        height, width = maps.shape[2:]
        low_y, high_y, share_y = _samples(rows[:, 3], rows[:, 5], self.size[0], height)
        low_x, high_x, share_x = _samples(rows[:, 2], rows[:, 4], self.size[1], width)

        def at(y: Tensor, x: Tensor) -> Tensor:
            index = (y.unsqueeze(2) * width + x.unsqueeze(1)).flatten(1)
            index = index.unsqueeze(1).expand(-1, self.channels, -1)
            return gathered(planes, 2, index).unflatten(2, self.size)

        down, right = share_y[:, None, :, None], share_x[:, None, None, :]
        above = at(low_y, low_x) * (1 - right) + at(low_y, high_x) * right
        below = at(high_y, low_x) * (1 - right) + at(high_y, high_x) * right
        return above * (1 - down) + below * down

    def _planes(self, maps: Tensor, rows: Tensor) -> Tensor:
        """The planes (R, channels, H * W) of each box."""
        import torch

        count = maps.shape[1]
        first = rows[:, :1].long() * count + rows[:, 1:2].long() * self.channels
        index = first + torch.arange(self.channels, device=maps.device)
        sentence = f"a box names a map or a group of channels beyond {format_shape(maps.shape)}"
        with explaining_bad_index(self, sentence):
            chosen = selected(maps.flatten(2).flatten(0, 1), 0, index.flatten())
        return chosen.unflatten(0, index.shape)

    def _check_shapes(self, maps: Tensor, boxes: Tensor) -> None:
        self.check(
            maps.dim() == 4 and boxes.dim() > 0 and boxes.numel() == 6 * boxes.shape[0],
            f"its bottoms are {format_shape(maps.shape)} and {format_shape(boxes.shape)}; expected "
            "maps L x C x H x W and boxes R x 6",
        )


def _samples(start: Tensor, end: Tensor, count: int, extent: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two neighbours (R, count) of each sample along an axis, and the share of the second."""
    import torch

    places = torch.arange(count, device=start.device, dtype=start.dtype) + 0.5
    at = (places * (end - start)[:, None] / count + start[:, None]) * extent - 0.5
    below = at.floor()
    low, high = below.clamp(0, extent - 1).long(), (below + 1).clamp(0, extent - 1).long()
    return low, high, at - below
