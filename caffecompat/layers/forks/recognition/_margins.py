"""What the inner products with an angular margin share."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, ClassVar

from caffecompat.layers._base import Layer, Message, Shape, between, exactly
from caffecompat.layers._class_labels import ClassLabels
from caffecompat.proto.schema import enum_name

if TYPE_CHECKING:
    from torch import Tensor


class MarginProduct(Layer):
    """The base class: features and labels become scores, that of the label with a margin.

    Bottoms: features (N, ...), merged from ``axis`` on into K values, and one label for each. Tops:
    scores (N, num_output), and lambda (1,). In pass i, counted from 1, lambda is
    max(base (1 + gamma (iteration + i))^-power, lambda_min), and the scores are
    (scores with margin + lambda * scores without) / (1 + lambda). With type SINGLE there is no
    margin.
    """

    bottoms = exactly(2)
    tops = between(1, 2)
    parameters = ("weight",)
    in_place = False
    differentiable: ClassVar[tuple[bool, ...]] = (True, False)

    def read(self, p: Message, bottom: Shape) -> Shape:
        """Reads the settings; returns the shape of the weight."""
        self.check(p.num_output > 0, "num_output is missing or 0, it must be positive")
        first = self.axis(p.axis, bottom)
        self.check(first == 1, f"axis is {p.axis}, it must be 1: one label for each feature")
        self.classes = p.num_output
        self.class_labels = ClassLabels(self.classes, can_ignore=False)
        self.margin = enum_name(p, "type")
        self.base, self.gamma, self.power = p.base, p.gamma, p.power
        self.iteration, self.least = p.iteration, p.lambda_min
        return (self.classes, prod(bottom[first:]))

    def lambda_of_pass(self, like: Tensor) -> Tensor:
        """lambda of this pass, (1,)."""
        passes = self.noise.position.to(like.device) + (self.iteration + 1)
        growth = 1 + self.gamma * passes.to(like.dtype)
        value: Tensor = (self.base * growth**-self.power).clamp(min=self.least)
        return value.reshape(1)


def with_margin(cosine: Tensor, margin: str) -> Tensor:
    """The monotone continuation of cos(m angle), m = 2, 3, 4; the signs have no derivative."""
    c = cosine
    if margin == "SINGLE":
        return c
    sign = c.detach().sign()
    square = c * c
    if margin == "DOUBLE":
        return 2 * sign * square - 1
    if margin == "TRIPLE":
        outer = (c.detach().abs() - 0.5).sign()
        return outer * (4 * square * c - 3 * c) + sign * (1 + outer) - 2
    middle = sign * (2 * square.detach() - 1).sign()
    return middle * (8 * square * square - 8 * square + 1) + 2 * sign + middle - 3


def slope_with_margin(cosine: Tensor, margin: str) -> Tensor:
    """The derivative of :func:`with_margin`."""
    c = cosine
    sign = c.sign()
    if margin == "DOUBLE":
        return 4 * sign * c
    if margin == "TRIPLE":
        return (c.abs() - 0.5).sign() * (12 * c * c - 3)
    return sign * (2 * c * c - 1).sign() * (32 * c**3 - 16 * c)
