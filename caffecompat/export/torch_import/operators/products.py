"""Products of two computed matrices, as in attention: all pairs, and their sums.

No layer of Caffe or of a fork multiplies two blobs as matrices. Mul of Synopsys' Caffe multiplies
them with broadcast axes, and Reduction sums along the last one, so that the products of all pairs
are held for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffecompat.export.torch_import.operator import Call, Shape, operators, shape_of
from caffecompat.export.torch_import.operators.parts import permuted


@dataclass(frozen=True)
class Factor:
    """One of the two: its blob, its shape, and the axis of the items."""

    blob: str
    shape: Shape
    items: int

    def in_order(self, call: Call, order: Sequence[int], end: str) -> Factor:
        """The same with its axes in another order."""
        if list(order) == sorted(order):
            return self
        shape = tuple(self.shape[axis] for axis in order)
        return Factor(permuted(call, self.blob, order, end), shape, order.index(self.items))


def _factor(call: Call, value: Any) -> Factor:
    return Factor(call.blob(value), shape_of(value), call.axis_of_items(value))


def _product(call: Call, x: Factor, y: Factor, end: str = "", scale: float = 1.0) -> str:
    """scale times the sums along the last axes of x (..., T, K) and y (..., S, K): (..., T, S)."""
    call.check(
        x.shape[:-2] == y.shape[:-2] and x.shape[-1] == y.shape[-1],
        f"its operands are {x.shape} and {y.shape}; their axes but two must be equal here",
    )
    call.check(
        x.items == y.items and x.items < len(x.shape) - 2,
        "it multiplies across the axis of the batch",
    )
    wide = (*x.shape[:-1], 1, x.shape[-1])
    high = (*y.shape[:-2], 1, *y.shape[-2:])
    pair = [
        call.reshaped(x.blob, wide, x.items, f"{end}_rows"),
        call.reshaped(y.blob, high, y.items, f"{end}_columns"),
    ]
    product = call.add("Mul", pair, end=f"{end}_pairs")
    message = call.add("Reduction", [product.name], end=end)
    message.reduction_param.axis = len(x.shape)
    if scale != 1:
        message.reduction_param.coeff = scale
    return str(message.name)


def _swapped(axes: int) -> list[int]:
    return [*range(axes - 2), axes - 1, axes - 2]


@operators.register("aten.bmm")
@operators.register("aten.matmul")
def matrix_product(call: Call) -> str:
    x = _factor(call, call.arguments["self"])
    y = _factor(call, call.arguments["other" if "other" in call.arguments else "mat2"])
    call.check(
        len(x.shape) == len(y.shape) > 2,
        f"its operands are {x.shape} and {y.shape}; both must have the same number of axes, 3 or "
        "more",
    )
    call.moved(x.items)
    return _product(call, x, y.in_order(call, _swapped(len(y.shape)), "_turned"))


@operators.register("aten.einsum")
def einsum(call: Call) -> str:
    """A product of two whose letters are those of stacks of matrices."""
    equation = call.arguments["equation"].replace(" ", "")
    inputs, arrow, result = equation.partition("->")
    parts = inputs.split(",")
    call.check(
        bool(arrow) and len(parts) == 2 and "." not in equation,
        f"it is {equation!r}; two operands with one letter per axis can be converted",
    )
    first, second = parts
    stack = [a for a in result if a in first and a in second]
    rows = [a for a in result if a not in second]
    columns = [a for a in result if a not in first]
    inside = [a for a in first if a in second and a not in result]
    whole = [*stack, *rows, *inside], [*stack, *columns, *inside], [*stack, *rows, *columns]
    call.check(
        len(rows) == len(columns) == len(inside) == 1
        and all(
            sorted(letters) == sorted(wanted)
            for letters, wanted in zip((first, second, result), whole, strict=True)
        ),
        f"it is {equation!r}, which is no product of stacks of matrices",
    )
    x, y = (
        _factor(call, value).in_order(call, [letters.index(a) for a in wanted], f"_{n}")
        for n, (value, letters, wanted) in enumerate(
            zip(call.arguments["tensors"], (first, second), whole, strict=False)
        )
    )
    found = Factor(_product(call, x, y), tuple(call.shape), x.items)
    turned = found.in_order(call, [whole[2].index(a) for a in result], "_turned")
    call.moved(turned.items)
    return turned.blob


@operators.register("aten.scaled_dot_product_attention")
def attention(call: Call) -> str:
    """softmax(scale q k) v: two products with a Softmax between them."""
    call.check(
        call.arguments["attn_mask"] is None and not call.arguments["is_causal"],
        "it has a mask; Caffe has no layer for it",
    )
    q, k, v = (_factor(call, call.arguments[name]) for name in ("query", "key", "value"))
    scale = call.arguments["scale"]
    scores = _product(call, q, k, "_scores", q.shape[-1] ** -0.5 if scale is None else scale)
    softmax = call.add("Softmax", [scores], end="_weights")
    softmax.softmax_param.axis = len(q.shape) - 1
    weights = Factor(softmax.name, (*q.shape[:-1], k.shape[-2]), q.items)
    call.moved(q.items)
    return _product(call, weights, v.in_order(call, _swapped(len(v.shape)), "_turned"))
