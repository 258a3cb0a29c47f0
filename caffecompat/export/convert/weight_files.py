"""Weights fitted to a net's definition, written to a file and read back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from caffecompat.errors import ExportError, WeightsError
from caffecompat.export.outputs import output_flags
from caffecompat.export.source import PREPROCESSING, Source
from caffecompat.net import LoadReport, Net
from caffecompat.net.parameters.state_dict_names import torch_naming
from caffecompat.proto.text.printer import format_text
from caffecompat.weights import LayerWeights, Weights, load_weights, match_shape, save_weights
from caffecompat.weights.array_names import NamedArrays
from caffecompat.weights.compare import same_bits
from caffecompat.weights.files import read_named
from caffecompat.weights.format import NamedFormat, formats
from caffecompat.weights.mapped import release_pages

NO_LIMIT = 2**63 - 1
# The number of values that are compared before their memory is given back.
PIECE = 1 << 20
# How many names of layers a message shows.
SHOWN = 3
TORCHVISION_NAME = re.compile(
    r"(features|classifier)\.\d+$|layer[1-4]\.\d+\.|inception\d[a-e]\.branch"
)


def with_metadata(source: Source) -> Weights:
    """The source's weights with the definition and the preprocessing as text, where known."""
    weights = source.weights
    weights.metadata = dict(weights.metadata)
    if source.definition is not None:
        weights.metadata["prototxt"] = format_text(source.definition.message)
    if source.preprocessing is not None:
        weights.metadata[PREPROCESSING] = source.preprocessing.to_json()
    return weights


def with_types(source: Source) -> None:
    """Gives layers that have no type, as in npz files, the types of the definition."""
    if source.definition is None:
        return
    types = {layer.name: layer.type for layer in source.definition.message.layer}
    for layer in source.weights.layers:
        layer.type = layer.type or types.get(layer.name, "")


def through_net(source: Source, max_bytes: int | None) -> tuple[Weights, LoadReport]:
    """The weights as the definition's net holds them: with its layer types, in its shapes.

    Arrays are views of those that were read, except where layers share parameters.

    Raises:
        NetError: the net cannot be built.
        WeightsError: the weights do not fit it, or some are missing.
    """
    weights = source.weights
    weights.path = str(source.path)
    reshape_filters(source)
    net = Net(source.definition, shapes_only=True, max_bytes=max_bytes)
    report = net.load_weights(weights, on_mismatch="skip", lenient=True)
    if report.mismatched:
        advice = f"{source.path}: these are weights of another net than {source.origin}"
        lines = [*report.mismatched.values(), f"{advice}; --model names their definition"]
        raise WeightsError("\n".join(lines))
    if report.nothing_loaded:
        raise WeightsError(_other_names(source, report.missing))
    if report.missing:
        flags = output_flags(net.graph, set(report.missing))
        way = f"; without these layers the net is converted with {flags}" if flags else ""
        raise WeightsError(
            f"{source.path}: has no parameters for {', '.join(map(repr, report.missing))} of "
            f"{source.origin}; --model names the definition of these weights{way}"
        )
    return _views(net, weights) or _copies(source, max_bytes), report


def _other_names(source: Source, missing: Sequence[str]) -> str:
    stored = [layer.name for layer in source.weights.layers if layer.blobs]
    way = "give the definition that they belong to with --model, or rename its layers"
    if has_torchvision_names(source.weights):
        way = "these are torchvision's names: --layout torchvision finds the layers"
    return (
        f"{source.path}: has other layers than {source.origin}: {_some(stored)}, but the net has "
        f"{_some(missing)}; {way}"
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more if names else "none with values"


def has_torchvision_names(weights: Weights) -> bool:
    """Whether layers are called as the modules of torchvision's nets."""
    return any(TORCHVISION_NAME.match(layer.name) for layer in weights.layers)


def reshape_filters(source: Source) -> None:
    """Gives the filters of a fully connected layer the matrix that the definition has, and back.

    MatConvNet has convolutions only; the values and their order are the same.
    """
    assert source.definition is not None
    types = {layer.name: layer.type for layer in source.definition.message.layer}
    for layer in source.weights.layers:
        wanted = types.get(layer.name)
        if layer.type == "Convolution" and wanted == "InnerProduct" and layer.blobs:
            first = layer.blobs[0]
            layer.blobs = [first.reshape(len(first), -1), *layer.blobs[1:]]
            layer.type = wanted


def _views(net: Net, weights: Weights) -> Weights | None:
    """The file's arrays in the net's shapes; None where parameters are shared or left out."""
    rows: list[LayerWeights] = []
    # What a net without values would give has the names, the types and the wiring.
    for built in net.layers:
        specs = built.module.layer.specs if built.module else []
        blobs: list[np.ndarray] = []
        if specs:
            found = weights[built.name] if built.name in weights else LayerWeights(built.name)
            if found.indices is not None or len(found.blobs) != len(specs):
                return None
            for blob, legacy, spec in zip(found.blobs, found.legacy, specs, strict=True):
                values = match_shape(blob, legacy, spec.shape)
                if values is None:
                    return None
                blobs.append(values)
        rows.append(
            LayerWeights(
                built.name,
                built.type,
                blobs,
                bottoms=[bottom.blob for bottom in built.bottoms],
                tops=[top.blob for top in built.tops],
                phase=0 if built.node.phase == "TRAIN" else 1,
            )
        )
    return Weights(rows, net.graph.name, weights.path)


def _copies(source: Source, max_bytes: int | None) -> Weights:
    net = Net(source.definition, max_bytes=max_bytes)
    net.load_weights(source.weights)
    return net.to_weights()


def write_and_read_back(weights: Weights, path: Path, format_name: str, verify: bool) -> int:
    """Writes the file; with ``verify`` reads it back and compares every bit.

    Returns:
        The number of arrays that were compared.

    Raises:
        WeightsError: the format cannot hold the weights; or an array differs.
        FileProblem: the file cannot be written.
    """
    naming = torch_naming()
    save_weights(weights, path, format=format_name, naming=naming)
    if not verify:
        return 0
    # What was just written from memory may claim what it holds.
    written = load_weights(path, naming, max_bytes=NO_LIMIT)
    count = 0
    for layer in weights.values():
        if not layer.blobs:
            continue
        found = written[layer.name].blobs if layer.name in written else []
        same = len(found) == len(layer.blobs) and all(map(_same, found, layer.blobs))
        if not same:
            raise WeightsError(f"{path}: layer {layer.name!r} differs from what was written")
        count += len(found)
    return count


def write_named_and_read_back(
    named: NamedArrays, path: Path, format_name: str, verify: bool
) -> int:
    """As :func:`write_and_read_back`, for arrays by name."""
    writer = formats.find(format_name)()
    if not isinstance(writer, NamedFormat):
        raise ExportError(
            f"{path}: {format_name} holds layers, and a layout is about the names of a state dict; "
            "write .pt or .safetensors"
        )
    writer.write(named, path)
    if not verify:
        return 0
    written = read_named(path, NO_LIMIT)
    for name, array in named.arrays.items():
        if written is None or name not in written.arrays or not _same(written.arrays[name], array):
            raise WeightsError(f"{path}: array {name!r} differs from what was written")
    return len(named.arrays)


def _same(written: np.ndarray, array: np.ndarray) -> bool:
    """Whether two arrays have the same bits. Pages of mapped files are given back on the way."""
    if written.size != array.size:
        return False
    ours, theirs = written.reshape(-1), array.reshape(-1)
    for start in range(0, ours.size, PIECE):
        pair = ours[start : start + PIECE], theirs[start : start + PIECE]
        if not same_bits(*pair):
            return False
        for piece in pair:
            release_pages(piece)
    return True


def array_keys(weights: Weights, format_name: str) -> list[str]:
    """The names of the arrays in a file of that format."""
    layers = [layer for layer in weights.values() if layer.blobs]
    if format_name in ("torch", "safetensors"):
        naming = torch_naming()
        return [name for layer in layers for name in naming.names(layer)]
    return [f"{layer.name}/{index}" for layer in layers for index in range(len(layer.blobs))]
