"""``caffecompat convert``: a model from one form to another, checked after writing."""

from __future__ import annotations

import argparse
from pathlib import Path

from caffecompat.cli.arguments import add_max_bytes_argument
from caffecompat.export.graph_pass import pass_help
from caffecompat.reporting.terminal import printable

HELP = "convert models: caffemodel, safetensors, torch, HDF5, npz and other programs' forms"
EXAMPLE = """  caffecompat convert VGG_ILSVRC_16_layers.caffemodel       (writes ....safetensors)
  caffecompat convert vgg16.pt vgg16.caffemodel --model prototxt/D_deploy.prototxt
  caffecompat convert vgg16.caffemodel old.caffemodel --to caffemodel-v1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="model file; its form is recognised by content")
    parser.add_argument(
        "target",
        nargs="?",
        help="file to write, its suffix says the form (docs/conversion.md lists them); default: "
        "the source's name with .safetensors, or with .caffemodel if the source is not Caffe's",
    )
    parser.add_argument(
        "--model",
        metavar="PROTOTXT",
        help="net definition; the weights must fit it. Default: the one in the source, or the only "
        "one beside it that fits",
    )
    parser.add_argument(
        "--to",
        "--format",
        type=_form_name,
        metavar="FORM",
        help="form to write, whatever the suffix; caffemodel-v1 is the layout of 2014, for readers "
        "that know no other",
    )
    parser.add_argument("--force", action="store_true", help="replace files that exist")
    parser.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read weights back and compare every bit; run other forms and compare (default: on)",
    )
    _add_changes(parser)
    add_max_bytes_argument(parser)


def _form_name(name: str) -> str:
    """``name``, if there is such a form; only asked where the flag is used, since it loads them."""
    from caffecompat.errors import UnknownName
    from caffecompat.export.forms import named_form

    try:
        return named_form(name).name
    except UnknownName as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rgb",
        action="store_true",
        help="swap the input channels of the first convolution, so that the net takes R, G, B",
    )
    parser.add_argument(
        "--bvlc-batch-norm",
        action="store_true",
        help="split NVCaffe's BatchNorm of five blobs into BatchNorm and Scale (<name>_scale)",
    )
    for name, text in pass_help().items():
        parser.add_argument(
            f"--{name}", dest="passes", action="append_const", const=name, help=text
        )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.export.conversion import ConvertOptions, convert

    options = ConvertOptions(
        model=arguments.model,
        to=arguments.to,
        force=arguments.force,
        verify=arguments.verify,
        passes=tuple(getattr(arguments, "passes", None) or ()),
        rgb=arguments.rgb,
        bvlc_batch_norm=arguments.bvlc_batch_norm,
        max_bytes=arguments.max_bytes,
    )
    target = Path(arguments.target) if arguments.target else None
    convert(Path(arguments.source), target, options, lambda line: print(printable(line)))
    return 0
