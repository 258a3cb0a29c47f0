"""Caffe's binary weights: a NetParameter of any generation.

Only names, types, wiring and blobs are read: their field numbers are the same in BVLC Caffe and
its forks, while other numbers collide. Files are written with current ``layer`` entries; the
format ``caffemodel-v1`` writes the older ``layers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffecompat.errors import FormatError, WeightsError
from caffecompat.output_files import atomic_write
from caffecompat.proto.layer_types import from_v0, from_v1
from caffecompat.weights.blob_shapes import MAX_AXES
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.blob_proto import blob_parts, read_blob
from caffecompat.weights.encodings.wire import Message, Part
from caffecompat.weights.file_type import looks_like_net
from caffecompat.weights.format import LayerFormat, formats
from caffecompat.weights.mapped import map_file
from caffecompat.weights.nvcaffe import NVCAFFE, is_nvcaffe
from caffecompat.weights.weights import LayerWeights, Weights

# Fields of NetParameter.
NET_NAME, OLD_LAYERS, LAYER = 1, 2, 100
# Far more than any net has; a damaged file could repeat a few bytes until memory is full.
MAX_LAYERS, MAX_BLOBS, MAX_BLOBS_OF_ALL = 50_000, 1_000, 200_000


@dataclass(frozen=True)
class Generation:
    """The field numbers of a layer message; 0 if a generation has no such field.

    ``inner`` is the V0 layer inside a V1 layer, which then has only bottoms and tops.
    ``current_type`` converts a type that is a string; None if types are numbers, as in V1.
    """

    title: str
    name: int
    type: int
    blobs: int
    bottom: int = 0
    top: int = 0
    phase: int = 0
    inner: int = 0
    current_type: Callable[[str], str] | None = None


V2 = Generation("V2", name=1, type=2, bottom=3, top=4, blobs=7, phase=10, current_type=str)
V1 = Generation("V1", name=4, type=5, bottom=2, top=3, blobs=6, inner=1)
V0 = Generation("V0", name=1, type=2, blobs=50, current_type=from_v0)


@formats.register("caffemodel")
class CaffeModel(LayerFormat):
    """``.caffemodel``: reads all generations, writes the current one."""

    suffixes = (".caffemodel",)
    max_axes = MAX_AXES

    def sniff(self, head: bytes, path: Path) -> bool:
        return looks_like_net(head)

    def read(self, path: Path) -> Weights:
        net = Message.whole(map_file(path, self.max_bytes), str(path))
        weights = Weights(path=str(path), format="caffemodel")
        generations: dict[int, str] = {}
        blobs = 0
        for field in net.fields():
            if field.wire == wire.LENGTH and field.number == NET_NAME:
                weights.net_name = net.text(field)
            elif field.wire == wire.LENGTH and field.number in (LAYER, OLD_LAYERS):
                if len(weights.layers) >= MAX_LAYERS:
                    raise net.error(field.start, f"it has more than {MAX_LAYERS:,} layers")
                numbers = V2 if field.number == LAYER else V1
                generation = _read_layer(net.child(field), numbers, weights)
                generations.setdefault(field.number, generation)
                blobs += len(weights.layers[-1].blobs)
                if blobs > MAX_BLOBS_OF_ALL:
                    raise net.error(field.start, f"it has more than {MAX_BLOBS_OF_ALL:,} blobs")
        if len(generations) > 1:
            raise FormatError(
                f"{path}: it has both 'layer' and old 'layers' entries, which Caffe refuses too; "
                "it was assembled from files of different generations"
            )
        if not weights.layers:
            raise FormatError(f"{path}: it has no layers; it is cut off, or not a caffemodel")
        weights.generation = next(iter(generations.values()))
        return weights

    def write(self, weights: Weights, path: Path) -> None:
        with atomic_write(path) as file:
            for part in _net_parts(weights, path):
                file.write(part)


def _read_layer(message: Message, numbers: Generation, weights: Weights) -> str:
    """Appends the layer in ``message`` and returns its generation."""
    layer = LayerWeights("")
    messages, generation = _read_fields(message, numbers, layer)
    who = f"layer {layer.name!r} ({layer.type})"
    if len(messages) > MAX_BLOBS:
        raise message.error(messages[MAX_BLOBS].start, f"{who} has more than {MAX_BLOBS} blobs")
    blobs = [read_blob(m, f"{who}, blob {index}") for index, m in enumerate(messages)]
    layer.blobs = [blob.data for blob in blobs]
    layer.legacy = [blob.legacy for blob in blobs]
    layer.stored = [blob.stored for blob in blobs]
    if any(blob.diff is not None for blob in blobs):
        layer.diffs = [_zeros_like(b.data) if b.diff is None else b.diff for b in blobs]
    if any(blob.raw for blob in blobs) or is_nvcaffe(layer):
        weights.dialect = NVCAFFE
    weights.layers.append(layer)
    return generation


def _read_fields(
    message: Message, numbers: Generation, layer: LayerWeights
) -> tuple[list[Message], str]:
    """Sets everything but the blobs; returns the messages of the blobs, and the generation.

    The caller reads the blobs afterwards, when the layer's name is known for error messages.
    """
    blobs: list[Message] = []
    generation = numbers.title
    for field in message.fields():
        number = field.number
        if field.wire == wire.VARINT:
            if number == numbers.type and not numbers.current_type:
                layer.type = from_v1(wire.signed(field.value, 32))
            elif number == numbers.phase:
                layer.phase = wire.signed(field.value, 32)
        elif field.wire != wire.LENGTH:
            continue
        elif number == numbers.name:
            layer.name = message.text(field)
        elif number == numbers.type and numbers.current_type:
            layer.type = numbers.current_type(message.text(field))
        elif number == numbers.bottom:
            layer.bottoms.append(message.text(field))
        elif number == numbers.top:
            layer.tops.append(message.text(field))
        elif number == numbers.blobs:
            blobs.append(message.child(field))
        elif number == numbers.inner:
            inner, generation = _read_fields(message.child(field), V0, layer)
            blobs += inner
    return blobs, generation


def _zeros_like(blob: np.ndarray) -> np.ndarray:
    """A zero gradient, for one that the file leaves out, which takes no memory."""
    return np.broadcast_to(np.float32(0), blob.shape)


def _net_parts(weights: Weights, path: Path) -> Iterator[Part]:
    """The bytes of the file, layer by layer, in order of field numbers as protobuf writes them."""
    # As in Caffe, a net writes its name also where it has none.
    if weights.net_name or any(layer.settings for layer in weights.layers):
        yield from wire.text_field(NET_NAME, weights.net_name)
    for layer in weights.layers:
        try:
            yield from wire.delimited(LAYER, _layer_parts(layer))
        except UnicodeEncodeError as error:
            raise WeightsError(f"{path}: layer {layer.name!r}: {error}") from error


def _layer_parts(layer: LayerWeights) -> list[Part]:
    parts = wire.text_field(V2.name, layer.name)
    if layer.type:
        parts += wire.text_field(V2.type, layer.type)
    for bottom in layer.bottoms:
        parts += wire.text_field(V2.bottom, bottom)
    for top in layer.tops:
        parts += wire.text_field(V2.top, top)
    before, behind = layer.settings or (b"", _phase(layer))
    parts.append(before)
    diffs: Sequence[np.ndarray | None] = layer.diffs or (None,) * len(layer.blobs)
    for blob, diff, legacy in zip(layer.blobs, diffs, layer.legacy, strict=True):
        parts += wire.delimited(V2.blobs, blob_parts(blob, diff, legacy))
    return [*parts, behind]


def _phase(layer: LayerWeights) -> bytes:
    return b"" if layer.phase is None else b"".join(wire.number_field(V2.phase, layer.phase))
