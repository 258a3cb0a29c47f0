"""A look at the first labels: they must be classes of the scores that they are compared with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

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


# So many labels that none of them is in the upper half of the classes by chance.
_TELLING = 20


def check_labels(net: Net, first: int, passes: int = 2) -> list[str]:
    """Reads the labels of ``passes`` passes from ``first`` on and compares them with the classes.

    A GPU would otherwise meet them in the middle of a kernel, which ends the process.

    Returns:
        What is strange without being wrong, one sentence each.

    Raises:
        DataError: a label is no class; one sentence with the layer.
    """
    pairs = list(_labelled(net))
    seen: dict[str, _Seen] = {}
    sources = {top: built for built in net.layers if built.source for top in built.tops}
    for index in range(first, first + passes):
        read: dict[str, tuple[torch.Tensor, ...]] = {}
        for built, classes, label in pairs:
            source = sources[label]
            if source.type in ("Input", "MemoryData"):
                continue
            if source.name not in read:
                read[source.name] = net.read_source(source, index)
            values = read[source.name][source.tops.index(label)].detach()
            found = values.to("cpu", torch.int64).flatten()
            _check(built, classes, label, found, source)
            seen.setdefault(built.name, _Seen(built, classes)).add(found)
    return [sentence for entry in seen.values() if (sentence := entry.remark(passes))]


@dataclass
class _Seen:
    """The labels that one layer was given."""

    built: BuiltLayer
    classes: int
    largest: int = -1
    count: int = 0

    def add(self, labels: torch.Tensor) -> None:
        if labels.numel():
            self.largest = max(self.largest, int(labels.max()))
        self.count += labels.numel()

    def remark(self, passes: int) -> str:
        """A sentence where the labels leave much of the classes unused."""
        if self.count < _TELLING or 2 * (self.largest + 1) > self.classes:
            return ""
        return (
            f"{self.built.place}: the {self.count} labels of the first {passes} batches reach only "
            f"{self.largest}, but there are {self.classes} classes; is num_output "
            f"{self.classes} right, and are the records shuffled?"
        )


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


def _listing(source: BuiltLayer) -> str:
    """The command that shows all labels of a data layer's database."""
    database = source.node.message.data_param.source
    if not database:
        return ""
    return f" (caffecompat dataset info {shlex.quote(database)} lists all labels)"


def _check(
    built: BuiltLayer, classes: int, label: Version, found: torch.Tensor, source: BuiltLayer
) -> None:
    wrong = (found < 0) | (found >= classes)
    for name in ("loss_param", "accuracy_param"):
        message = getattr(built.node.message, name)
        if message.HasField("ignore_label"):
            wrong &= found != message.ignore_label
    if wrong.any():
        worst = int(found[wrong].max())
        raise DataError(
            f"{built.place}: label {worst} of {label.blob!r} is none of its {classes} classes, "
            f"expected 0 to {classes - 1}; make num_output one more than the largest label of the "
            f"data, which is at least {worst}{_listing(source)}, or give ignore_label"
            if worst >= 0
            else f"{built.place}: label {worst} of {label.blob!r} is negative, expected 0 to "
            f"{classes - 1}; is ignore_label: {worst} missing?"
        )
