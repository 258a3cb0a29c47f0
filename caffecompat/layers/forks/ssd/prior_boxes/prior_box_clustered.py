"""PriorBoxClustered: prior boxes of given widths and heights."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers.forks._other_fields import refuse_other_fields
from caffecompat.layers.forks.ssd.prior_boxes._prior_grid import GRID_FIELDS, BoxSize, PriorGrid


@register("PriorBoxClustered", fork="Intel's SSD")
class PriorBoxClustered(PriorGrid):
    """Boxes of given sizes at each position of a feature map.

    Bottoms and top as PriorBox. Box k is ``width[k]`` by ``height[k]`` pixels; the sizes usually
    come from a clustering of a data set's boxes. Source: the published description of OpenVINO's
    operation PriorBoxClustered, and OpenCV, which reads such nets.
    """

    param_fields = ("prior_box_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.prior_box_param
        refuse_other_fields(self, "prior_box_param", p, (*GRID_FIELDS, "width", "height", "flip"))
        self.read_grid(message, bottoms)
        widths, heights = list(p.width), list(p.height)
        self.check(
            bool(widths) and len(widths) == len(heights) and min(*widths, *heights) > 0,
            f"prior_box_param has {len(widths)} width and {len(heights)} height; give as many "
            "heights as widths, at least one of each, all positive",
        )
        self.boxes = [BoxSize(float(w), float(h)) for w, h in zip(widths, heights, strict=True)]
