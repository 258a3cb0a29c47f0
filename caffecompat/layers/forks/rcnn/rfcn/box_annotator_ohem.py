"""BoxAnnotatorOHEM of R-FCN: the regions with the largest losses are those to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Layer, Message, Shape, exactly, format_shape, register

if TYPE_CHECKING:
    from torch import Tensor


@register("BoxAnnotatorOHEM", fork="R-FCN")
class BoxAnnotatorOHEM(Layer):
    """Labels and weights of each image's ``roi_per_img`` regions with the largest losses.

    Bottoms: regions (R, 5) with the image first, losses (R), labels (R), and weights (R, C). Tops:
    labels (R, 1, 1, 1) and weights (R, C, 1, 1); other regions have ``ignore_label`` (-1) and
    weight 0. Of equal losses the earlier one counts as larger; the original's order is not defined.
    No gradients. Source: box_annotator_ohem_layer of R-FCN.
    """

    bottoms = exactly(4)
    tops = exactly(2)
    in_place = False
    differentiable = (False,)
    fork_fields = ("box_annotator_ohem_param",)
    batch_coupling = "compares the losses of the regions of a batch"

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.box_annotator_ohem_param
        self.most = int(p.roi_per_img)
        self.ignored = int(p.ignore_label)
        self.check(self.most > 0, "roi_per_img is 0, it must be positive")

    def forward(
        self, regions: Tensor, losses: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        import torch

        count = regions.shape[0]
        shapes = " and ".join(format_shape(x.shape) for x in (regions, losses, labels, weights))
        self.check(
            regions.numel() == 5 * count
            and losses.numel() == labels.numel() == weights.shape[0] == count,
            f"its bottoms are {shapes}; expected R x 5, R losses, R labels, and R x C weights",
        )
        image = regions.detach().reshape(count, 5)[:, 0].long()
        loss, index = losses.detach().reshape(-1), torch.arange(count, device=losses.device)
        before = (loss[None] > loss[:, None]) | (
            (loss[None] == loss[:, None]) & (index[None] < index[:, None])
        )
        rank = (before & (image[None] == image[:, None])).sum(1)
        kept = rank < self.most
        chosen = labels.detach().reshape(-1).where(kept, self.ignored)
        mask = kept.reshape(-1, *[1] * (weights.dim() - 1))
        shown = weights.detach().where(mask, 0)
        shape = (*weights.shape, 1, 1)[: max(4, weights.dim())]
        return chosen.reshape(count, 1, 1, 1), shown.reshape(shape)
