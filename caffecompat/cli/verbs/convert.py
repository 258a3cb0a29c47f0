"""``caffecompat convert``: weights from one format to another, checked after writing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_max_bytes_argument
from caffecompat.cli.loading_lines import loading_lines
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted

if TYPE_CHECKING:
    from caffecompat.weights import Naming, Weights

HELP = "convert weights: caffemodel, HDF5, npz, torch state dict, in any direction"
EXAMPLE = """  caffecompat convert VGG_ILSVRC_16_layers.caffemodel            (writes ....pt)
  caffecompat convert vgg16.pt vgg16.caffemodel --model prototxt/D_deploy.prototxt
  caffecompat convert vgg16.caffemodel old.caffemodel --format caffemodel-v1"""

NO_LIMIT = 2**63 - 1

# What each format's files end in; the names are those of the formats' files.
FORMATS = {
    "caffemodel": ".caffemodel",
    "caffemodel-v1": ".caffemodel",
    "hdf5": ".caffemodel.h5",
    "npz": ".npz",
    "torch": ".pt",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="weight file; its format is recognised by content")
    parser.add_argument(
        "target",
        nargs="?",
        help="file to write, its suffix says the format: .caffemodel, .caffemodel.h5, .npz "
        "(keys layer/index), .pt (state dict); default: the source's name with .pt, or with "
        ".caffemodel if the source is no caffemodel",
    )
    parser.add_argument(
        "--model", help="net definition; the weights must fit it, and layer types come from it"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="format to write, whatever the suffix; caffemodel-v1 is the layout of 2014, for "
        "readers that know no other",
    )
    parser.add_argument(
        "--bvlc-batch-norm",
        action="store_true",
        help="split NVCaffe's BatchNorm of five blobs into BatchNorm and Scale (<name>_scale)",
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.net.parameters.state_dict_names import torch_naming
    from caffecompat.output_files import check_target
    from caffecompat.weights import load_weights, save_weights, to_bvlc_batch_norm
    from caffecompat.weights.files import format_of

    naming = torch_naming()
    source = Path(arguments.source)
    target = _target(source, arguments.target, arguments.format)
    check_target(target)
    weights = load_weights(source, naming, arguments.max_bytes)
    if arguments.bvlc_batch_norm:
        weights = to_bvlc_batch_norm(weights)
    if arguments.model:
        weights = _through_net(arguments, weights)
    save_weights(weights, target, format=arguments.format, naming=naming)
    arrays = _verify(weights, target, naming)
    layers = sum(1 for layer in weights.values() if layer.blobs)
    values = sum(blob.size for layer in weights.values() for blob in layer.blobs)
    print(
        f"wrote {target}: {counted(layers, 'layer')} with parameters, {counted(values, 'value')}; "
        f"read back: {counted(arrays, 'array')} equal bit for bit"
    )
    written = arguments.format or format_of(target)
    keys = _keys(weights, written, naming)
    for line in loading_lines(target, written, keys, arguments.model or ""):
        print(line)
    if FORMATS[written] == ".caffemodel" and not any(layer.type for layer in weights.layers):
        print(
            "its layers have no types, which Caffe does not need and inspect would show; "
            "--model NET.prototxt adds them"
        )
    return 0


def _keys(weights: Weights, format_name: str, naming: Naming) -> list[str]:
    """The names of the arrays in a file of that format."""
    layers = [layer for layer in weights.values() if layer.blobs]
    if format_name == "torch":
        return [name for layer in layers for name in naming.names(layer)]
    return [f"{layer.name}/{index}" for layer in layers for index in range(len(layer.blobs))]


def _target(source: Path, given: str | None, format_name: str | None) -> Path:
    """Where to write. Only a target that was named may replace a file, and never the source."""
    from caffecompat.errors import WeightsError

    target = Path(given) if given else _default_target(source, format_name)
    if target.exists() and source.exists() and target.samefile(source):
        raise WeightsError(f"{target}: source and target are one file; give another target")
    if target.exists() and not given:
        raise WeightsError(f"{target}: exists already; name it as the target to replace it")
    return target


def _default_target(source: Path, format_name: str | None) -> Path:
    for suffix in (".caffemodel.h5", ".caffemodel"):
        if source.name.endswith(suffix):
            stem = source.name.removesuffix(suffix)
            return source.with_name(stem + FORMATS[format_name or "torch"])
    return source.with_suffix(FORMATS[format_name or "caffemodel"])


def _through_net(arguments: argparse.Namespace, weights: Weights) -> Weights:
    """The weights as a net holds them: with its layer types, checked against its shapes."""
    from caffecompat.errors import WeightsError
    from caffecompat.net import Net

    model, origin = arguments.model, str(Path(arguments.source))
    net = Net(model, max_bytes=arguments.max_bytes)
    weights.path = origin
    report = net.load_weights(weights)
    if report.missing:
        raise WeightsError(
            f"{origin}: has no parameters for {', '.join(map(repr, report.missing))} of {model}"
        )
    for name in report.ignored:
        if weights[name].blobs:
            print(printable(f"Ignoring source layer {name}"))
    return net.to_weights()


def _verify(weights: Weights, target: Path, naming: Naming) -> int:
    """Reads the written file and compares it with what was to be written.

    Raises:
        WeightsError: an array differs.
    """
    from caffecompat.errors import WeightsError
    from caffecompat.weights import load_weights
    from caffecompat.weights.compare import same_bits

    # What was just written from memory may claim what it holds.
    written = load_weights(target, naming, max_bytes=NO_LIMIT)
    count = 0
    for layer in weights.values():
        if not layer.blobs:
            continue
        found = written[layer.name].blobs if layer.name in written else []
        same = len(found) == len(layer.blobs) and all(map(same_bits, found, layer.blobs))
        if not same:
            raise WeightsError(f"{target}: layer {layer.name!r} differs from what was written")
        count += len(found)
    return count
