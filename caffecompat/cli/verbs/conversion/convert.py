"""``caffecompat convert``: a model from one form to another, checked after writing."""

from __future__ import annotations

import argparse
from pathlib import Path

from caffecompat.cli.arguments import add_dialect_argument, add_max_bytes_argument
from caffecompat.data.preprocessing_presets import PRESETS
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
    _add_preprocessing(parser)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load a .pt2 program as the source, although it can contain code that then runs",
    )
    add_dialect_argument(parser)
    add_max_bytes_argument(parser)


def _form_name(name: str) -> str:
    """``name``, if there is such a form; only asked where the flag is used, since it loads them."""
    from caffecompat.errors import UnknownName
    from caffecompat.export.convert.forms import named_form

    try:
        return named_form(name).name
    except UnknownName as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout",
        choices=("torchvision",),
        help="name the arrays of a state dict as torchvision does, where the architectures agree; "
        "of the target if that is a state dict, else of the source",
    )
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
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="BLOB",
        help="keep only what this blob needs, as an output; may be given several times, for "
        "example to leave out layers that the target does not have",
    )
    for name, text in pass_help().items():
        parser.add_argument(
            f"--{name}", dest="passes", action="append_const", const=name, help=text
        )


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preprocessing",
        choices=PRESETS,
        help="what happens to an image before, written with the model: "
        + "; ".join(f"{name}: {text}" for name, (_, text) in PRESETS.items())
        + ". Default: what the source or the data layer of --model says",
    )
    parser.add_argument(
        "--mean", metavar="B,G,R|FILE", help="its mean: numbers, or a mean file's channel means"
    )
    parser.add_argument("--labels", metavar="FILE", help="class names, one per line")
    parser.add_argument(
        "--fold-preprocessing",
        action="store_true",
        help="put mean, scale and channel order into the model, which then takes R, G, B from 0 to "
        "1 (ONNX and the like)",
    )
    parser.add_argument(
        "--for",
        dest="program",
        choices=("opencv5",),
        default="",
        help="write ONNX with operators that this program has (ROIPooling gets others), and print "
        "the lines that prepare an image in it",
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.export.convert.conversion import ConvertOptions, convert
    from caffecompat.export.convert.image_preparation import PreparationOptions
    from caffecompat.export.targets.base import TargetOptions

    options = ConvertOptions(
        model=arguments.model,
        to=arguments.to,
        force=arguments.force,
        verify=arguments.verify,
        outputs=tuple(arguments.output),
        passes=tuple(getattr(arguments, "passes", None) or ()),
        layout=arguments.layout,
        rgb=arguments.rgb,
        bvlc_batch_norm=arguments.bvlc_batch_norm,
        preparation=PreparationOptions(arguments.preprocessing, arguments.mean, arguments.labels),
        target=TargetOptions(arguments.fold_preprocessing, arguments.program),
        trust=arguments.trust,
        max_bytes=arguments.max_bytes,
        dialect=arguments.dialect,
    )
    target = Path(arguments.target) if arguments.target else None
    convert(Path(arguments.source), target, options, lambda line: print(printable(line)))
    return 0
