"""A look at the first labels: they must be classes of the scores that they are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from caffecompat.errors import DataError
from caffecompat.graph import Version
from caffecompat.net import Net
from caffecompat.net.build import BuiltLayer

# Layers with scores as their first bottom and class labels as their second, and where the axis
# of the classes stands in the definition; without an entry it is axis 1.
_AXES = {
    "SoftmaxWithLoss": "softmax_param",
    "Accuracy": "accuracy_param",
    "MultinomialLogisticLoss": "",
    "InfogainLoss": "infogain_loss_param",
    "HingeLoss": "",
}


def check_labels(net: Net, first: int, passes: int = 2) -> None:
    """Reads the labels of ``passes`` passes from ``first`` on and compares them with the classes.

    A GPU would otherwise meet them in the middle of a kernel, which ends the process.

    Raises:
        DataError: a label is no class; one sentence with the layer.
    """
    pairs = list(_labelled(net))
    sources = {top: built for built in net.layers if built.source for top in built.tops}
    for index in range(first, first + passes):
        read: dict[str, tuple[torch.Tensor, ...]] = {}
        for built, classes, label in pairs:
            source = sources[label]
            if source.type in ("Input", "MemoryData"):
                continue
            if source.name not in read:
                read[source.name] = net.read_source(source, index)
            _check(built, classes, label, read[source.name][source.tops.index(label)])


def _labelled(net: Net) -> Iterator[tuple[BuiltLayer, int, Version]]:
    """Layers that compare scores with labels straight from a data layer: layer, classes, label."""
    origin = {top: top for built in net.layers if built.source is not None for top in built.tops}
    for built in net.layers:
        if built.node.automatic and built.bottoms[0] in origin:
            origin.update(dict.fromkeys(built.tops, origin[built.bottoms[0]]))
        if built.type in _AXES and len(built.bottoms) > 1 and built.bottoms[1] in origin:
            field = _AXES[built.type]
            axis = int(getattr(built.node.message, field).axis) if field else 1
            shape = net.shape_of(built.bottoms[0])
            if -len(shape) <= axis < len(shape):
                yield built, shape[axis], origin[built.bottoms[1]]


def _check(built: BuiltLayer, classes: int, label: Version, values: torch.Tensor) -> None:
    found = values.detach().to("cpu", torch.int64).flatten()
    wrong = (found < 0) | (found >= classes)
    for name in ("loss_param", "accuracy_param"):
        message = getattr(built.node.message, name)
        if message.HasField("ignore_label"):
            wrong &= found != message.ignore_label
    if wrong.any():
        worst = int(found[wrong][0])
        raise DataError(
            f"{built.place}: label {worst} of {label.blob!r} is none of its {classes} classes, "
            f"expected 0 to {classes - 1}; make num_output at least {max(worst, 0) + 1}, or give "
            "ignore_label"
            if worst >= 0
            else f"{built.place}: label {worst} of {label.blob!r} is negative, expected 0 to "
            f"{classes - 1}; is ignore_label: {worst} missing?"
        )
