"""``caffecompat draw``: a picture of a net, or a page to look around in."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.image_arguments import add_preparation_arguments
from caffecompat.cli.shapes import add_net_arguments, description_options
from caffecompat.input_files import STANDARD_INPUT

if TYPE_CHECKING:
    from caffecompat.draw.arrays.array_views import ArrayView
    from caffecompat.draw.diagram import Diagram
    from caffecompat.net.definition import Definition

HELP = "draw a net: an interactive HTML page, or SVG, PNG, PDF and dot by graphviz"
EXAMPLE = """\
  caffecompat draw deploy.prototxt                  (writes deploy.html; no network needed)
  caffecompat draw train_val.prototxt net.svg --phase TRAIN
  caffecompat draw deploy.prototxt --weights net.caffemodel --input cat.jpg --preprocessing vgg"""

_PAGES = (".html", ".htm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The net and its state, the target, what is shown."""
    add_net_arguments(parser, "TRAIN, TEST, or ALL for the layers of every phase")
    parser.add_argument(
        "target",
        metavar="TARGET",
        nargs="?",
        help="the file to write, .html, .svg, .png, .pdf or .dot (default: the name of the net's "
        "file with .html, beside it)",
    )
    parser.add_argument("--force", action="store_true", help="replace the target if it exists")
    parser.add_argument(
        "--rankdir",
        type=str.upper,
        choices=("TB", "LR", "BT", "RL"),
        default="TB",
        help="direction of graphviz's pictures (default: TB, from top to bottom)",
    )
    parser.add_argument(
        "--weights", help="weight file; the page shows its filters, statistics and histograms"
    )
    parser.add_argument(
        "--input", metavar="IMAGE", help="with --weights: the page shows this image's activations"
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes of --input, one per line"
    )
    add_preparation_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    target = arguments.target or _default_target(arguments.net)
    mistake = _mistake(arguments, target)
    if mistake:
        print(f"caffecompat: error: {mistake}", file=sys.stderr)
        return 2

    from caffecompat.draw.dot import DotOptions
    from caffecompat.draw.reading import diagram_of
    from caffecompat.draw.writing import check_new, check_suffix, write_page, write_picture

    check_suffix(target)
    check_new(target, arguments.force)
    definition, source = read(arguments)
    diagram = diagram_of(definition, source, arguments.phase, description_options(arguments))
    if target.lower().endswith(_PAGES):
        views = _views(arguments, definition, diagram)
        write_page(target, diagram, views, _facts(arguments))
    else:
        write_picture(target, diagram, DotOptions(arguments.rankdir))
    report(target, diagram)
    return 0


def _default_target(net: str) -> str:
    from caffecompat.input_files import check_input

    if net == STANDARD_INPUT:
        return ""
    check_input(net)
    return os.fspath(Path(net).with_suffix(".html"))


def _mistake(arguments: argparse.Namespace, target: str) -> str:
    """What is wrong with the flags together, or nothing."""
    if not target:
        return "a net from standard input needs a target: caffecompat draw - net.html"
    if arguments.weights and not target.lower().endswith(_PAGES):
        return f"--weights is shown by an .html page, and the target is {target}"
    if arguments.input and not arguments.weights:
        return "--input needs --weights: without them activations mean nothing"
    if arguments.input and arguments.phase.upper() == "ALL":
        return "--input needs one phase, TRAIN or TEST"
    return ""


def read(arguments: argparse.Namespace) -> tuple[Definition, str]:
    """The definition, and the name of its file."""
    from caffecompat.input_files import path_or_standard_input
    from caffecompat.net.definition import read_definition

    given = path_or_standard_input(arguments.net, arguments.max_bytes)
    definition = read_definition(given, arguments.lenient, arguments.max_bytes)
    return definition, os.fspath(given)


def report(target: str, diagram: Diagram) -> None:
    """Prints what was written, and what could not be built."""
    from caffecompat.reporting.terminal import printable
    from caffecompat.reporting.units import counted

    problems: Sequence[str] = diagram.problems
    if problems:
        are, them = ("is", "it") if len(problems) == 1 else ("are", "them")
        print(f"# {counted(len(problems), 'layer')} cannot be built and {are} marked; shapes that")
        print(f"# depend on {them} are unknown. The first:")
        print(f"# {printable(problems[0])}")
    print(f"wrote {target}: {counted(len(diagram.layers), 'layer')}")


def _facts(arguments: argparse.Namespace) -> dict[str, str]:
    named = {"weights": arguments.weights, "activations of": arguments.input}
    return {name: Path(path).name for name, path in named.items() if path}


def _views(
    arguments: argparse.Namespace, definition: Definition, diagram: Diagram
) -> dict[int, list[ArrayView]]:
    """Weights and activations of the layers."""
    if not arguments.weights:
        return {}

    from caffecompat.cli.arguments import build_options
    from caffecompat.cli.image_arguments import preparation_of, prepared_model
    from caffecompat.draw.arrays.activations import net_after_image
    from caffecompat.draw.arrays.array_views import activation_views, merged, parameter_views
    from caffecompat.export.source import read_source
    from caffecompat.reporting.activity import Activity, heartbeat
    from caffecompat.reporting.glog import LOGGER, log_to
    from caffecompat.reporting.progress import console_handler

    activity = Activity()
    with log_to(console_handler()), heartbeat(activity, LOGGER):
        activity.begin("the weight file")
        source = read_source(Path(arguments.weights), definition, arguments.max_bytes)
        views = parameter_views(
            diagram, source.weights, lambda name: activity.begin(f"weights of layer {name!r}")
        )
        if not arguments.input:
            return views
        activity.begin("the pass of the image")
        model = prepared_model(source, arguments, "draw")
        preparation = preparation_of(arguments, model)
        options = build_options(arguments)
        net = net_after_image(model, arguments.phase, options, arguments.input, preparation)
        labels = preparation.preprocessing.labels
        shown = activation_views(
            diagram, net, labels, lambda name: activity.begin(f"activations of layer {name!r}")
        )
        net.close()
    return merged(views, shown)
