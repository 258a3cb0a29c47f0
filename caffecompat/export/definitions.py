"""Where the definition of a weight file's net is: in its metadata, beside it, or in the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffecompat.errors import CaffeError
from caffecompat.input_files import MEBIBYTE, StandardInput
from caffecompat.net.definition import Definition, read_definition
from caffecompat.proto.binary.nets import read_binary_net
from caffecompat.proto.input_layers import input_layers
from caffecompat.proto.text.parser import parse_text
from caffecompat.proto.wrong_files import looks_like_text
from caffecompat.weights import Weights
from caffecompat.weights.encodings import wire
from caffecompat.weights.encodings.wire import Field, Message, Part
from caffecompat.weights.file_type import looks_like_net
from caffecompat.weights.formats.caffemodel import LAYER, OLD_LAYERS, V0, V1, V2
from caffecompat.weights.mapped import map_file, read_head

PROTOTXT = "prototxt"
# Prototxts beside a weight file that are looked at, and how large they may be.
MOST_CANDIDATES, MOST_BYTES = 200, 4 * MEBIBYTE
# The largest definition inside of a weight file.
MOST_EMBEDDED_BYTES = 64 * MEBIBYTE


@dataclass(frozen=True)
class FoundDefinition:
    """A definition and the sentence about its origin."""

    definition: Definition
    origin: str
    path: Path | None = None


def find_definition(path: Path, weights: Weights) -> tuple[FoundDefinition | None, list[str]]:
    """The definition that belongs to a weight file.

    It is looked for in the file's metadata, in the prototxts of its folder whose layers include all
    that have weights, and in the layers of the file itself, which Caffe stores with their settings.

    Returns:
        The definition, or None; and notes for the user.

    Raises:
        FormatError: the metadata have a prototxt that does not parse.
    """
    definition = definition_in(weights.metadata, path)
    if definition is not None:
        return FoundDefinition(definition, "from the file's metadata"), []
    beside = definitions_beside(path, weights)
    if len(beside) == 1:
        found = beside[0]
        return FoundDefinition(read_definition(found), "beside the weights", found), []
    notes = []
    if beside:
        names = ", ".join(found.name for found in beside)
        notes.append(f"several definitions beside the weights fit: {names}; --model chooses one")
    embedded = embedded_definition(path)
    if embedded is None:
        return None, notes
    return FoundDefinition(embedded, "from the layers of the model file"), notes


def definition_in(metadata: Mapping[str, str], path: Path) -> Definition | None:
    """The definition in a file's metadata; None if there is none.

    Raises:
        TextError: it does not parse.
    """
    text = metadata.get(PROTOTXT)
    if not text:
        return None
    message, _ = parse_text(text, "NetParameter", f"{path}: its prototxt")
    return read_definition(message)


def definitions_beside(path: Path, weights: Weights) -> list[Path]:
    """The prototxts in a weight file's folder that may be its net's.

    Their layers include all layers with weights. Among them those with inputs are preferred
    (deploy) to those that read data, and then one with the weight file's own name.
    """
    names = {layer.name for layer in weights.layers if layer.blobs}
    fitting: dict[Path, Any] = {}
    for candidate in sorted(path.parent.glob("*.prototxt"))[:MOST_CANDIDATES]:
        message = _net_in(candidate)
        if names and message is not None and names <= {layer.name for layer in message.layer}:
            fitting[candidate] = message
    deployed = [found for found, message in fitting.items() if has_inputs(message)]
    chosen = deployed or list(fitting)
    own = [p for p in chosen if p.stem in (path.stem, f"{path.stem}_deploy")]
    return own if len(own) == 1 else chosen


def has_inputs(message: Any) -> bool:
    """Whether a net is fed by its caller, as a deploy prototxt is."""
    return next(input_layers(message), None) is not None


def embedded_definition(path: Path) -> Definition | None:
    """The definition inside of a caffemodel; None where its layers have names and blobs only.

    Nothing of the blobs is read. What Caffe adds before it stores a net is left out. Tops of its
    Split layers would be outputs of a net from which a reader, such as an Accuracy, is removed; and
    its phase TRAIN in each layer would make Dropout and BatchNorm train in every net.
    """
    if not looks_like_net(read_head(path)):
        return None
    try:
        net = Message.whole(map_file(path), str(path))
        data = b"".join(_without_blobs(net))
        if len(data) > MOST_EMBEDDED_BYTES:
            return None
        message, _ = read_binary_net(_Extract(data, str(path)), max_bytes=None)
        _remove_automatic_splits(message)
        _remove_common_phase(message)
        definition = read_definition(message)
    except CaffeError:
        return None
    return definition if _has_settings(definition.message) else None


def _remove_automatic_splits(message: Any) -> None:
    """Gives the readers of such layers' tops the bottom, as in the prototxt that Caffe read."""
    origin: dict[str, str] = {}
    kept = []
    for layer in message.layer:
        layer.bottom[:] = [origin.get(bottom, bottom) for bottom in layer.bottom]
        if _is_automatic_split(layer):
            origin.update(dict.fromkeys(layer.top, layer.bottom[0]))
        else:
            kept.append(layer)
    if origin:
        del message.layer[:]
        message.layer.extend(kept)


def _remove_common_phase(message: Any) -> None:
    """Removes the phase of a net from its layers; phases that differ are those of a prototxt."""
    if len({layer.phase if layer.HasField("phase") else None for layer in message.layer}) == 1:
        for layer in message.layer:
            layer.ClearField("phase")


def _is_automatic_split(layer: Any) -> bool:
    """Whether a layer has the names that Caffe gives, and no part in the loss."""
    if layer.type != "Split" or len(layer.bottom) != 1 or any(layer.loss_weight):
        return False
    named = f"{layer.bottom[0]}_" in layer.name and layer.name.endswith("_split")
    return named and list(layer.top) == [f"{layer.name}_{i}" for i in range(len(layer.top))]


class _Extract(StandardInput):
    """A part of a file in memory, to be passed where a path is expected."""

    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(data)
        self.path = path

    def __fspath__(self) -> str:
        return self.path


def _net_in(path: Path) -> Any:
    """The upgraded net of a prototxt; None if it cannot be read."""
    try:
        if os.stat(path).st_size > MOST_BYTES or not looks_like_text(read_head(path)):
            return None
        return read_definition(path).message
    except (CaffeError, OSError):
        return None


def _has_settings(message: Any) -> bool:
    """Whether a layer has parameters of its type, which Caffe writes and other programs do not."""
    return any(
        entry.name.endswith("_param") and entry.name not in ("include", "exclude")
        for layer in message.layer
        for entry, _ in layer.ListFields()
    )


def _without_blobs(net: Message) -> list[Part]:
    """The bytes of a net without the blobs of its layers."""
    parts: list[Part] = []
    for field in net.fields():
        if field.wire == wire.LENGTH and field.number in (LAYER, OLD_LAYERS):
            generation = V2 if field.number == LAYER else V1
            parts += wire.delimited(field.number, _layer(net.child(field), generation.blobs))
        else:
            parts += _copied(net, field)
    return parts


def _layer(message: Message, blobs: int) -> list[Part]:
    parts: list[Part] = []
    for field in message.fields():
        if field.wire == wire.LENGTH and field.number == blobs:
            continue
        if field.wire == wire.LENGTH and blobs == V1.blobs and field.number == V1.inner:
            parts += wire.delimited(field.number, _layer(message.child(field), V0.blobs))
        else:
            parts += _copied(message, field)
    return parts


def _copied(message: Message, field: Field) -> list[Part]:
    """A field, unchanged; groups, which Caffe's files do not have, are left out."""
    data = message.data[field.start : field.end]
    if field.wire == wire.LENGTH:
        return wire.delimited(field.number, [data])
    if field.wire == wire.VARINT and field.repeats == 1:
        return wire.number_field(field.number, field.value)
    if field.wire in wire.WIDTH or field.wire == wire.VARINT:
        # ``data`` has the keys between the values of a run; the key before the first is added.
        return [wire.varint(field.number << 3 | field.wire), data]
    return []
