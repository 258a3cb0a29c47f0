"""LargeMarginInnerProduct: the large-margin softmax (L-Softmax)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caffecompat.layers._base import Message, Shape, between, register
from caffecompat.layers._loss import naming_bad_labels
from caffecompat.layers._repeatable_gradients import selected
from caffecompat.layers.forks.recognition._margins import MarginProduct, with_margin

if TYPE_CHECKING:
    from torch import Tensor

# Added to |w| |x|.
_LEAST = 1e-9


@register("LargeMarginInnerProduct", fork="L-Softmax, NormFace")
class LargeMarginInnerProduct(MarginProduct):
    """|w| |x| cos(m angle) for the label's class, w x for others.

    m is 1 to 4 for ``type`` SINGLE to QUADRUPLE, and cos(m angle) is continued so that it falls all
    the way. See :class:`MarginProduct` for bottoms, tops and lambda. A third bottom
    (num_output, K) replaces the weight (NormFace). Source: L-Softmax's LargeMarginInnerProduct
    layer.
    """

    bottoms = between(2, 3)
    differentiable = (True, False, True)
    param_fields = ("largemargin_inner_product_param",)
    fork_fields = ("largemargin_inner_product_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.largemargin_inner_product_param
        self.second = len(message.top) > 1
        shape = self.read(p, bottoms[0])
        if len(bottoms) == 2:
            self.parameter("weight", shape, p.weight_filler)

    def forward(
        self, x: Tensor, labels: Tensor, *given: Tensor, weight: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        w = given[0].flatten(1) if weight is None else weight
        x, labels = x.flatten(1), labels.detach().long().reshape(-1, 1)
        lambda_ = self.lambda_of_pass(x)
        plain = x @ w.t()
        with naming_bad_labels(self, self.classes):
            rows = selected(w, 0, labels.flatten())
            own = plain.gather(1, labels)
        scores = plain
        if self.margin != "SINGLE":
            norms = x.norm(dim=1, keepdim=True) * rows.norm(dim=1, keepdim=True) + _LEAST
            scores = plain.scatter(1, labels, norms * with_margin(own / norms, self.margin))
            scores = (scores + lambda_ * plain) / (1 + lambda_)
        return (scores, lambda_) if self.second else scores
