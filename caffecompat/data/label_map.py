"""Label maps of SSD: the names and numbers of classes, as text of a LabelMap message."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from caffecompat.errors import DataError, suggestion
from caffecompat.proto import files
from caffecompat.reporting.terminal import short_name


@dataclass(frozen=True)
class LabelMap:
    """The classes of a label map.

    Attributes:
        path: of the file, for messages.
        names: the name of each label.
        display_names: the name to show for each label that has one; else its name.
    """

    path: str
    names: dict[int, str] = field(default_factory=dict)
    display_names: dict[int, str] = field(default_factory=dict)

    def label(self, name: str) -> int:
        """The label of a class.

        Raises:
            DataError: there is no class of that name.
        """
        label = self._labels.get(name)
        if label is None:
            near = suggestion(name, self.names.values())
            raise DataError(
                f"{self.path}: there is no class {short_name(name)!r} in the label map{near}"
            )
        return label

    @cached_property
    def _labels(self) -> dict[str, int]:
        # Of equal names the first counts.
        return {name: label for label, name in reversed(self.names.items())}


def read_label_map(path: str, max_bytes: int | None = None, unique: bool = True) -> LabelMap:
    """Reads a label map.

    Args:
        path: the file.
        max_bytes: the largest file to read; None for 64 MiB.
        unique: refuse a name that two items have; else its last item counts.

    Raises:
        FileProblem, TextError, FormatError: the file cannot be read or is no label map.
        DataError: it has no item, or the same label or name twice.
    """
    message, _ = files.read_text(path, "LabelMap", max_bytes=max_bytes)
    if not message.item:
        raise DataError(f"{path}: the label map has no item; it needs one for each class")
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    shown: dict[int, str] = {}
    for item in message.item:
        if unique and item.name in labels:
            raise DataError(
                f"{path}: two items have the name {short_name(item.name)!r}; give each its own"
            )
        if item.label in names:
            raise DataError(f"{path}: two items have the label {item.label}; give each its own")
        if item.name in labels:
            del names[labels[item.name]]
        labels[item.name] = item.label
        names[item.label] = item.name
        shown[item.label] = item.display_name or item.name
    return LabelMap(path, names, shown)
