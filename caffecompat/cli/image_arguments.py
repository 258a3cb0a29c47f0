"""Arguments of the verbs that run a deploy net on images, such as classify and evaluate."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import (
    add_device_arguments,
    add_fork_arguments,
    add_max_bytes_argument,
)
from caffecompat.cli.inference_arguments import add_inference_arguments

if TYPE_CHECKING:
    from caffecompat.evaluate.images.labelled_images import LabelledImages
    from caffecompat.evaluate.images.preparation import ImagePreparation
    from caffecompat.export.model import CaffeModel
    from caffecompat.export.source import Source


def add_model_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """The net, its weights, and the device."""
    parser.add_argument(
        "--model",
        help="deploy prototxt (default: the one beside the weights, or from the weight file)",
    )
    parser.add_argument("--weights", required=required, help="weight file")
    add_device_arguments(parser)
    add_inference_arguments(parser)
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)


def add_image_arguments(parser: argparse.ArgumentParser, picture: str) -> None:
    """Image files by name, and in what form the results are shown.

    Args:
        picture: the help of ``--picture``.
    """
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--picture", metavar="FILE.png", help=picture)


def add_value_arguments(parser: argparse.ArgumentParser) -> None:
    """How pixels become the values that a net takes."""
    parser.add_argument(
        "--preprocessing",
        metavar="NAME",
        help="channel order, mean and scale of a known family: vgg, caffenet, pycaffe-classifier, "
        "digits, ssd, mobilenet-ssd, faster-rcnn, none (default: what the model file or its "
        "train_val says)",
    )
    parser.add_argument(
        "--mean",
        metavar="B,G,R|FILE",
        help="mean to subtract from values of 0 to 255: one number per channel, one for all, or a "
        "mean file (.binaryproto, .npy), whose image is stretched to the size of each image",
    )
    parser.add_argument(
        "--channel-means",
        action="store_true",
        help="of a mean file subtract the mean of each channel",
    )
    parser.add_argument(
        "--input-scale",
        type=float,
        metavar="X",
        help="multiply by X after subtracting the mean (scale of transform_param)",
    )


def add_preparation_arguments(parser: argparse.ArgumentParser) -> None:
    """How images are rescaled, and become the values that a net takes."""
    add_value_arguments(parser)
    parser.add_argument(
        "--interpolation",
        choices=("smooth", "bilinear", "bicubic", "area"),
        help="how images are rescaled; the paper does not say. smooth: averages areas where an "
        "image shrinks, bicubic where it grows, as convert-imageset --min-side (default: smooth)",
    )
    parser.add_argument(
        "--round-down",
        action="store_true",
        help="round the longer side of a rescaled image down (default: to the nearest pixel)",
    )


def add_data_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """The images and their labels."""
    parser.add_argument(
        "--data",
        required=required,
        help="folder with a sub-folder for each class, list of images with labels, LMDB or LevelDB",
    )
    parser.add_argument("--root", default="", help="folder of the names in the list")
    parser.add_argument(
        "--unlabelled", "--no-labels", action="store_true", help="the list has no labels"
    )
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one per line")


def add_skip_corrupt_argument(parser: argparse.ArgumentParser) -> None:
    """``--skip-corrupt``."""
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that cannot be used; each is named",
    )


def check_class_names(path: str, classes: int) -> tuple[str, ...]:
    """The names of the classes in a file of ``--labels``.

    Raises:
        DataError: there is not one for each class.
        FileProblem, FormatError: the file cannot be read.
    """
    from caffecompat.errors import DataError
    from caffecompat.export.convert.image_preparation import read_labels

    names = read_labels(path)
    if len(names) != classes:
        raise DataError(
            f"{path}: it has {len(names)} lines, but the net has {classes} classes; give a file "
            "with one line for each class, in the order of the net"
        )
    return names


def open_data(arguments: argparse.Namespace, gray: bool) -> LabelledImages:
    """The images of ``--data``."""
    from caffecompat.evaluate.images.labelled_images import ImageOptions, open_images

    labelled = not arguments.unlabelled
    return open_images(
        arguments.data, ImageOptions(arguments.root, gray, labelled, arguments.max_bytes)
    )


def add_scale_arguments(parser: argparse.ArgumentParser) -> None:
    """Test scales and flips."""
    parser.add_argument(
        "--scales",
        type=_sides,
        metavar="Q,Q,...",
        help="smallest sides to which images are rescaled, in pixels (default: 256, or the net's "
        "input where that is larger or much smaller)",
    )
    parser.add_argument(
        "--no-flip",
        dest="flip",
        action="store_false",
        help="leave the mirrored images out",
    )


def read_model(arguments: argparse.Namespace, verb: str) -> CaffeModel:
    """The model of ``--weights`` and ``--model``, with the preprocessing of its images.

    Of a definition that reads data it is the deploy net.
    """
    from caffecompat.export.deploy.of_models import fed_by_inputs
    from caffecompat.export.source import read_source
    from caffecompat.net.definition import read_definition
    from caffecompat.reporting.glog import LOGGER

    model = arguments.model
    if model is not None and arguments.lenient:
        model = read_definition(model, lenient=True, max_bytes=arguments.max_bytes)
    source = read_source(Path(arguments.weights), model, arguments.max_bytes)
    if arguments.lenient:
        source = source.leniently()
    model = prepared_model(source.of_dialect(arguments.dialect), arguments, verb)
    return fed_by_inputs(model, LOGGER.info)


def prepared_model(source: Source, arguments: argparse.Namespace, verb: str) -> CaffeModel:
    """The model of what was read, with the preprocessing of its images."""
    from caffecompat.export.convert.image_preparation import PreparationOptions, prepared

    preset = arguments.preprocessing
    if preset is None and arguments.mean is not None and source.preprocessing is None:
        preset = "none"
    options = PreparationOptions(preset, arguments.mean, arguments.labels)
    return prepared(source, options).model(f"caffecompat {verb}")


def preparation_of(arguments: argparse.Namespace, model: CaffeModel) -> ImagePreparation:
    """How images are rescaled, and become inputs of the net.

    Raises:
        DataError: nothing says how, or the mean has another number of channels.
        FileProblem, FormatError: the mean file cannot be read.
    """
    from caffecompat.evaluate.images.inference_net import input_size

    channels = input_size(model).channels
    found = value_preparation_of(arguments, model, "vgg (or caffenet, digits, none)")
    preprocessing = found.preprocessing
    if channels == 1:
        preprocessing = replace(preprocessing, channel_order="gray")
    found = replace(
        found,
        preprocessing=preprocessing,
        interpolation=arguments.interpolation or found.interpolation,
        round_down=arguments.round_down,
    )
    found.check_channels(channels, "the net's input")
    return found


def value_preparation_of(
    arguments: argparse.Namespace, model: CaffeModel, names: str
) -> ImagePreparation:
    """How pixels become the values that a net takes.

    Args:
        names: of presets, for the message where nothing says it.

    Raises:
        DataError: nothing says it.
        FileProblem, FormatError: the mean file cannot be read.
    """
    from caffecompat.errors import DataError
    from caffecompat.evaluate.images.preparation import ImagePreparation
    from caffecompat.export.convert.image_preparation import read_mean_image

    found = model.preprocessing
    if found is None:
        raise DataError(
            f"{model.path}: nothing says how images are prepared for this net; give "
            f"--preprocessing {names}, or --mean B,G,R"
        )
    if arguments.input_scale is not None:
        found = replace(found, scale=arguments.input_scale)
    image = None
    if arguments.mean is not None and not arguments.channel_means:
        image = read_mean_image(arguments.mean, arguments.max_bytes)
    return ImagePreparation(found, mean_image=image)


def default_scales(model: CaffeModel) -> tuple[int, ...]:
    """256 for nets of Caffe's usual sizes, else the net's input and an eighth more."""
    from caffecompat.evaluate.images.inference_net import input_size

    largest = max(input_size(model).crop)
    return (256,) if 200 <= largest <= 256 else (largest + largest // 8,)


def _sides(text: str) -> tuple[int, ...]:
    try:
        sides = tuple(int(part) for part in text.split(","))
    except ValueError:
        sides = (0,)
    if min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected numbers of pixels separated by commas, e.g. 256,384,512"
        )
    return sides
