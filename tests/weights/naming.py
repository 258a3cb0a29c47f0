"""Names for the arrays of layers of any type."""

from __future__ import annotations

from caffecompat.weights import Naming

NAMING = Naming(
    names=lambda layer: [
        f"{layer.name.replace('.', '%2E')}.{name}"
        for name in ("weight", "bias", "third")[: len(layer.blobs)]
    ],
    layer=lambda module: module.replace("%2E", "."),
)
