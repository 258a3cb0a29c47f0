"""Binary weights as Caffe wrote them until 2014: ``layers`` with numbered types, 4-axis blobs.

This is the layout of the published VGG files, for programs that read no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from caffecompat.errors import WeightsError
from caffecompat.output_files import atomic_write
from caffecompat.proto.input_layers import INPUT
from caffecompat.proto.layer_types import from_v1
from caffecompat.weights.blob_shapes import padded
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.blob_proto import LEGACY, blob_parts
from caffecompat.weights.encodings.wire import Part
from caffecompat.weights.format import LayerFormat, formats
from caffecompat.weights.formats.caffemodel import NET_NAME, OLD_LAYERS, V1, CaffeModel
from caffecompat.weights.weights import LayerWeights, Weights

NET_INPUT = 3
# The enum had 40 entries when layer types became strings; forks added more.
NUMBERS = {from_v1(number): number for number in range(128)}


@formats.register("caffemodel-v1")
class CaffeModelV1(LayerFormat):
    """The V1 generation, selected by this format's name only, since its suffix is ``.caffemodel``.

    Writes name, type, bottoms, tops, and blobs with shapes of four axes (leading ones). Input
    layers, which V1 did not have, become the net's ``input`` names.
    """

    def sniff(self, head: bytes, path: Path) -> bool:
        return False  # the format "caffemodel" reads all generations

    def read(self, path: Path) -> Weights:
        reader = CaffeModel()
        reader.max_bytes = self.max_bytes
        return reader.read(path)

    def write(self, weights: Weights, path: Path) -> None:
        _check(weights, path)
        with atomic_write(path) as file:
            for part in _net_parts(weights):
                file.write(part)


def _check(weights: Weights, path: Path) -> None:
    """Raises WeightsError with everything that V1 cannot store, before anything is written."""
    problems = []
    for layer in weights.layers:
        who = f"{path}: layer {layer.name!r} ({layer.type})"
        if not layer.type:
            problems.append(
                f"{path}: layer {layer.name!r} has no type in the file it was read from, but a V1 "
                "file needs one; pass the net definition, too (--model)"
            )
        elif layer.type != INPUT and layer.type not in NUMBERS:
            problems.append(f"{who}: the V1 generation has no such type; write a V2 .caffemodel")
        for index, blob in enumerate(layer.blobs):
            if blob.ndim > len(LEGACY):
                problems.append(f"{who}: blob {index} has {blob.ndim} axes, V1 has at most 4")
    try:
        for layer in weights.layers:
            "".join([layer.name, *layer.bottoms, *layer.tops]).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        problems.append(f"{path}: layer {layer.name!r}: {error}")
    if problems:
        raise WeightsError("\n".join(problems))


def _net_parts(weights: Weights) -> Iterator[Part]:
    if weights.net_name:
        yield from wire.text_field(NET_NAME, weights.net_name)
    for layer in weights.layers:
        if layer.type != INPUT:
            yield from wire.delimited(OLD_LAYERS, _layer_parts(layer))
    for layer in weights.layers:
        if layer.type == INPUT:
            for top in layer.tops:
                yield from wire.text_field(NET_INPUT, top)


def _layer_parts(layer: LayerWeights) -> list[Part]:
    parts: list[Part] = []
    for bottom in layer.bottoms:
        parts += wire.text_field(V1.bottom, bottom)
    for top in layer.tops:
        parts += wire.text_field(V1.top, top)
    parts += wire.text_field(V1.name, layer.name)
    parts += wire.number_field(V1.type, NUMBERS[layer.type])
    diffs: Sequence[np.ndarray | None] = layer.diffs or (None,) * len(layer.blobs)
    for blob, diff in zip(layer.blobs, diffs, strict=True):
        old_diff = None if diff is None else diff.reshape(padded(diff.shape))
        parts += wire.delimited(
            V1.blobs, blob_parts(blob.reshape(padded(blob.shape)), old_diff, legacy=True)
        )
    return parts
