"""Loss weights of tops."""

from __future__ import annotations

from collections.abc import Sequence

from caffecompat.errors import LayerError
from caffecompat.graph import LayerNode, Version
from caffecompat.layers import Layer


def loss_weights(node: LayerNode, layer_class: type[Layer], tops: int) -> tuple[float, ...]:
    """The loss weight of each top: ``loss_weight``, or Caffe's default.

    Raises:
        LayerError: their number is not that of the tops.
    """
    given = node.loss_weights
    if given and len(given) != tops:
        raise LayerError(
            f"{node.place}: has {len(given)} loss_weight values for {tops} top(s); "
            "give none, or one for each top"
        )
    if given:
        return given
    if tops > 1 and node.message.loss_weight:
        # A split has taken over the loss weights. Caffe refuses a loss type with two tops here.
        return (0.0,) * tops
    return (1.0 if layer_class.is_loss else 0.0, *(0.0,) * (tops - 1))[:tops]


def notes_on_read_losses(
    node: LayerNode,
    tops: Sequence[Version],
    weights: Sequence[float],
    read: Sequence[bool],
) -> list[str]:
    """Notes on losses that another layer reads: their loss weight gives no gradient."""
    notes = []
    for position, (top, weight) in enumerate(zip(tops, weights, strict=True)):
        if not (weight and read[position]):
            continue
        name = repr(str(top))
        if position < len(node.message.loss_weight):
            given = node.message.loss_weight[position]
            notes.append(
                f"{node.place}: another layer reads {name}: as in Caffe, the printed loss "
                f"counts it {given:g} + {weight:g} times (its loss_weight, and {weight:g} as for "
                f"every loss layer); the gradient is that of {given:g} and of the readers"
            )
        else:
            notes.append(
                f"{node.place}: another layer reads {name} and there is no loss_weight: as in "
                f"Caffe the printed loss counts {name}, but the gradient comes from its "
                f"readers alone; write loss_weight: {weight:g} to train by both"
            )
    return notes
