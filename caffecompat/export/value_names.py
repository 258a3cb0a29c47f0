"""One name for each value of a net, the same in every engine and file."""

from __future__ import annotations

from caffecompat.graph import Version
from caffecompat.layers.dropout import Dropout
from caffecompat.layers.split import Split
from caffecompat.net import Net
from caffecompat.net.built_layer import BuiltLayer


def is_same(built: BuiltLayer) -> bool:
    """Whether a layer returns its bottom in phase TEST."""
    layer = built.layer
    return isinstance(layer, Split) or (isinstance(layer, Dropout) and layer.passes_on)


def value_names(net: Net) -> dict[Version, str]:
    """The last value of a blob has the blob's name, and so has an input.

    A value that an in-place layer replaces is called ``<blob> before <layer>``. The last value that
    replaces an input is called ``<blob>'``.
    """
    inputs = {top for built in net.layers if built.source is not None for top in built.tops}
    blobs = {top.blob for top in inputs}
    names: dict[Version, str] = {}
    same: dict[Version, Version] = {}
    for built in net.layers:
        for top in built.tops:
            before = same.get(v := Version(top.blob, top.number - 1), v)
            same[top] = top
            if before in names and is_same(built):
                same[top] = before
                continue
            if before in names and before not in inputs:
                names[before] = f"{top.blob} before {built.name}"
            replaces_input = top.blob in blobs and top not in inputs
            names[top] = f"{top.blob}'" if replaces_input else top.blob
    return {version: names[first] for version, first in same.items()}
