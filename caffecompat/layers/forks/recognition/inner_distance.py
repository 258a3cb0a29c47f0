"""InnerDistance: distances to learned centres instead of inner products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import ALONG_BATCH, Layer, Message, Shape, between, register
from caffecompat.layers.inner_product import normalized_rows

if TYPE_CHECKING:
    from torch import Tensor


@register("InnerDistance", fork="NormFace")
class InnerDistance(Layer):
    """sum((x - centre)^2), or with ``distance_type: "L1"`` sum|x - centre|, for each centre.

    Bottom (A, ..., B, ...) with ``axis`` at B becomes (A, ..., centres). The centres are the weight
    (num_output, K), or a second bottom (centres, ...). With ``normalize`` each pass divides the
    rows of the weight by their norms, sqrt(sum w^2 + 1e-6), in TRAIN in place. With
    ``update_center_only`` the last bottom holds a label for each row, and only the label's distance
    gives its centre a gradient. ``transpose`` is refused: the original computes other values with
    it. Source: NormFace's InnerDistance layer.
    """

    bottoms = between(1, 3)
    parameters = ("weight",)
    in_place = False
    fork_fields = ("inner_distance_param",)
    differentiable = (True, True, False)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.inner_distance_param
        self.first = self.axis(p.axis, bottoms[0])
        self.batch_coupling = ALONG_BATCH if self.first == 0 else None
        self.check(
            p.distance_type in ("L1", "L2"),
            f"distance_type is {p.distance_type!r}, it must be 'L1' or 'L2'",
        )
        self.check(not p.transpose, "transpose is set, which this type does not support")
        self.by_label = p.update_center_only
        self.given = len(bottoms) - self.by_label > 1
        self.check(
            len(bottoms) >= 1 + self.by_label and len(bottoms) <= 2 + self.by_label,
            f"it has {len(bottoms)} bottoms; update_center_only needs the labels as the last one, "
            "and without it there are none",
        )
        self.normalize = p.normalize and not self.given
        self.inputs = prod(bottoms[0][self.first :])
        if not self.given:
            self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
            self.parameter("weight", (p.num_output, self.inputs), p.weight_filler)
        self.absolute = p.distance_type == "L1"
        self._distances = _distances(self.absolute)

    def forward(self, x: Tensor, *others: Tensor, weight: Tensor | None = None) -> Tensor:
        centers = others[0].flatten(1) if weight is None else weight
        rows = x.flatten(self.first).flatten(0, -2)
        self.check(
            rows.shape[1] == self.inputs == centers.shape[1],
            f"the bottom has {rows.shape[1]} values in a row, the centres {centers.shape[1]}",
        )
        if self.normalize:
            centers = normalized_rows(centers, in_place=self.training)
        labels = others[-1].detach().long().flatten() if self.by_label else None
        distances: Tensor = self._distances(rows, centers, labels)
        return distances.view(*x.shape[: self.first], -1)


def _distances(absolute: bool) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """(M, N) distances of rows (M, K) and centres (N, K), with their gradients."""
    import torch

    class Distances(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, centers: Tensor, labels: Tensor | None) -> Tensor:
            # Without the product of matrices, which loses digits of small distances.
            exact = "donot_use_mm_for_euclid_dist"
            distances = torch.cdist(x, centers, 1.0 if absolute else 2.0, compute_mode=exact)
            ctx.save_for_backward(x, centers, labels, distances if absolute else None)
            return distances.clone() if absolute else distances.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, Tensor, None]:
            x, centers, labels, distances = ctx.saved_tensors
            of_label = diff
            if labels is not None:
                own = diff.new_zeros(diff.shape).scatter_(1, labels.unsqueeze(1), 1)
                of_label = diff * own
            if absolute:
                backward = torch.ops.aten._cdist_backward
                along_x = backward(diff, x, centers, 1.0, distances)
                turned = of_label.t().contiguous(), distances.t().contiguous()
                return along_x, backward(turned[0], centers, x, 1.0, turned[1]), None
            along = 2 * (diff.sum(1, keepdim=True) * x - diff @ centers)
            of_label = of_label.t()
            return along, 2 * (of_label.sum(1, keepdim=True) * centers - of_label @ x), None

    return Distances.apply
