"""MarginInnerProduct: the angular softmax of SphereFace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caffecompat.layers._base import Message, Shape, register
from caffecompat.layers._loss import naming_bad_labels
from caffecompat.layers.forks.recognition._margins import (
    MarginProduct,
    slope_with_margin,
    with_margin,
)

if TYPE_CHECKING:
    from torch import Tensor


@register("MarginInnerProduct", fork="SphereFace, NormFace")
class MarginInnerProduct(MarginProduct):
    """|x| cos(m angle) for the label's class, w x for others; each row w of the weight has norm 1.

    m is 1 to 4 for ``type`` SINGLE to QUADRUPLE, and cos(m angle) is continued so that it falls all
    the way. See :class:`MarginProduct` for bottoms, tops and lambda. In TRAIN each pass divides the
    rows of the weight itself by their norms. The gradients are not the derivative, as in the
    original: that of the weight is that of w x alone, and for the label's class that of x, as
    a combination of w and x, has coefficients of norm 1. Source: SphereFace's MarginInnerProduct
    layer.
    """

    fork_fields = ("margin_inner_product_param",)

    def setup(self, message: Message, bottoms: Sequence[Shape]) -> None:
        p = message.margin_inner_product_param
        self.second = len(message.top) > 1
        self.parameter("weight", self.read(p, bottoms[0]), p.weight_filler)
        self._product = _product(self.margin)

    def forward(
        self, x: Tensor, labels: Tensor, *, weight: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        import torch

        with torch.no_grad():
            factor = (weight * weight).sum(1, keepdim=True).rsqrt()
            unit = weight.mul_(factor) if self.training else weight * factor
        lambda_ = self.lambda_of_pass(x)
        with naming_bad_labels(self, self.classes):
            scores: Tensor = self._product(
                x.flatten(1), labels.detach().long().reshape(-1, 1), unit, lambda_
            )
        return (scores, lambda_) if self.second else scores


def _product(margin: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The scores of features (N, K), labels (N, 1), weight and lambda, with their gradients."""
    import torch

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, labels: Tensor, weight: Tensor, lambda_: Tensor) -> Tensor:
            plain = x @ weight.t()
            ctx.save_for_backward(x, labels, weight, lambda_, plain)
            own = plain.gather(1, labels)
            if margin == "SINGLE":
                return plain.clone()
            norm = x.norm(dim=1, keepdim=True)
            cosine = own / norm
            scores = plain.scatter(1, labels, norm * with_margin(cosine, margin))
            return (scores + lambda_ * plain) / (1 + lambda_)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, diff: Tensor) -> tuple[Tensor, None, Tensor, None]:
            x, labels, weight, lambda_, plain = ctx.saved_tensors
            if margin == "SINGLE":
                return diff @ weight, None, diff.t() @ x, None
            norm = x.norm(dim=1, keepdim=True)
            cosine = plain.gather(1, labels) / norm
            slope = slope_with_margin(cosine, margin)
            along = (with_margin(cosine, margin) - cosine * slope) / norm
            length = (slope * slope + along * along).sqrt()
            of_label = diff.gather(1, labels)
            others = diff.scatter(1, labels, of_label * slope / length)
            own = others @ weight + of_label * along / length * x
            gradient = (own + lambda_ * (diff @ weight)) / (1 + lambda_)
            return gradient, None, diff.t() @ x, None

    return Product.apply
