"""The check of the first labels: each must be a class of the layer that reads it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from caffecompat.errors import DataError
from caffecompat.graph import Version
from caffecompat.layers import ClassLabels
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer

# So many labels are needed to conclude that the upper half of the classes is unused.
_MIN_LABELS = 20
# How much of a database is read to find its largest label: one or two seconds.
_MOST_RECORDS, _MOST_BYTES = 20_000, 128 << 20


def check_labels(net: Net, first: int, passes: int = 2) -> list[str]:
    """Reads the labels of ``passes`` passes from ``first`` on and compares them with the classes.

    On a GPU a wrong label would otherwise fail inside a kernel, which ends the process.

    Returns:
        What is unusual but not wrong, one sentence each.

    Raises:
        DataError: a label is not a class; one sentence with the layer.
    """
    readers = list(_labelled(net))
    seen: dict[str, _Seen] = {}
    sources = {top: built for built in net.layers if built.source for top in built.tops}
    for index in range(first, first + passes):
        read: dict[str, tuple[torch.Tensor, ...]] = {}
        for reader in readers:
            source = sources[reader.label]
            if source.source is None or source.source.filled_by_user:
                continue
            if source.name not in read:
                read[source.name] = net.read_source(source, index)
            values = read[source.name][source.tops.index(reader.label)].detach()
            found = values.to("cpu", torch.int64).flatten()
            ignored = {
                other.accepted.ignored: other.built.name
                for other in readers
                if other.label == reader.label and other.accepted.ignored is not None
            }
            _check(reader, found, source, ignored)
            seen.setdefault(reader.built.name, _Seen(reader)).add(found)
    return [sentence for entry in seen.values() if (sentence := entry.remark(passes))]


@dataclass(frozen=True)
class _Reader:
    """A layer that reads class labels directly from a data layer, whose top is ``label``."""

    built: BuiltLayer
    accepted: ClassLabels
    label: Version


@dataclass
class _Seen:
    """The labels that one layer has read."""

    reader: _Reader
    largest: int = -1
    count: int = 0

    def add(self, labels: torch.Tensor) -> None:
        if labels.numel():
            self.largest = max(self.largest, int(labels.max()))
        self.count += labels.numel()

    def remark(self, passes: int) -> str:
        """A sentence if half of the classes or more are unused, else an empty string."""
        classes = self.reader.accepted.classes
        if self.count < _MIN_LABELS or 2 * (self.largest + 1) > classes:
            return ""
        return (
            f"{self.reader.built.place}: the {self.count} labels of the first {passes} batches "
            f"reach only {self.largest}, but there are {classes} classes; is num_output {classes} "
            "right, and are the records shuffled?"
        )


def _labelled(net: Net) -> Iterator[_Reader]:
    """The layers that read labels from a data layer, directly or through automatic splits."""
    origin = {top: top for built in net.layers if built.source is not None for top in built.tops}
    for built in net.layers:
        if built.node.automatic and built.bottoms[0] in origin:
            origin.update(dict.fromkeys(built.tops, origin[built.bottoms[0]]))
        accepted = None if built.layer is None else built.layer.class_labels
        if accepted is None or accepted.bottom >= len(built.bottoms):
            continue
        bottom = built.bottoms[accepted.bottom]
        if bottom in origin:
            yield _Reader(built, accepted, origin[bottom])


def _list_command(source: BuiltLayer) -> str:
    """A clause with the command that lists all labels of a data layer's database."""
    database = source.node.message.data_param.source
    if not database:
        return ""
    return f" (caffecompat dataset info {shlex.quote(database)} lists all labels)"


def _remedy(worst: int, source: BuiltLayer, ignores: bool) -> str:
    """How many classes there must be for the labels of the data, as far as known.

    ``ignores``: the layer ignores one label, which might be the largest.
    """
    reader: Any = getattr(source.source, "reader", None)
    search = getattr(reader, "largest_label", None)
    found = search(_MOST_RECORDS, _MOST_BYTES) if search is not None and not ignores else None
    if found is None:
        return (
            f"make num_output one more than the largest label of the data, which is at least "
            f"{worst}{_list_command(source)}"
        )
    largest, seen = found
    largest = max(largest, worst)
    if seen == reader.records:
        return f"the labels of all {seen:,} records reach {largest}: make num_output {largest + 1}"
    return (
        f"the labels of the first {seen:,} of {reader.records:,} records reach {largest}: make "
        f"num_output at least {largest + 1}{_list_command(source)}"
    )


def _check(
    reader: _Reader, found: torch.Tensor, source: BuiltLayer, ignored: dict[int, str]
) -> None:
    """Raises DataError for a label that the layer does not accept.

    ``ignored``: the labels that layers with the same bottom ignore, with one layer's name each.
    """
    place, name = reader.built.place, reader.label.blob
    accepted, classes = reader.accepted, reader.accepted.classes
    wrong = (found < 0) | (found >= classes)
    if accepted.ignored is not None:
        wrong &= found != accepted.ignored
    if not wrong.any():
        return
    worst = int(found[wrong].max())
    unknown = set(found[wrong].tolist())
    if accepted.can_ignore and unknown == {worst} and worst in ignored:
        raise DataError(
            f"{place}: label {worst} of {name!r} is none of its {classes} classes, and layer "
            f"{ignored[worst]!r} ignores it; add the same to this layer: {accepted.ignore_in} {{ "
            f"ignore_label: {worst} }}"
        )
    if worst >= 0:
        remedy = _remedy(worst, source, accepted.ignored is not None)
        raise DataError(
            f"{place}: label {worst} of {name!r} is none of its {classes} classes, "
            f"expected 0 to {classes - 1}; {remedy}"
            + (", or give ignore_label" if accepted.can_ignore else "")
        )
    raise DataError(
        f"{place}: label {worst} of {name!r} is negative, expected 0 to {classes - 1}"
        + (f"; is ignore_label: {worst} missing?" if accepted.can_ignore else "")
    )
