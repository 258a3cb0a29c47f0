"""``caffecompat draw-net``: Caffe's script draw_net.py, with its arguments."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_fork_arguments, add_max_bytes_argument, build_options

HELP = "draw a net by graphviz, with the arguments of Caffe's draw_net.py"
EXAMPLE = """\
  caffecompat draw-net train_val.prototxt net.png --rankdir TB --phase TRAIN
  (caffecompat draw makes an interactive page, too)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's script."""
    parser.add_argument("net", metavar="PROTOTXT", help="the net; - for standard input")
    parser.add_argument(
        "target", metavar="IMAGE", help="the picture, .png, .svg, .pdf or .dot; it is replaced"
    )
    parser.add_argument(
        "--rankdir",
        type=str.upper,
        choices=("TB", "LR", "BT", "RL"),
        default="LR",
        help="direction of the drawing (default: LR, from left to right)",
    )
    parser.add_argument(
        "--phase",
        type=str.upper,
        choices=("TRAIN", "TEST", "ALL"),
        default="ALL",
        help="the layers of one phase (default: ALL)",
    )
    parser.add_argument(
        "--display_lrm",
        action="store_true",
        help="show the learning-rate multipliers of parameters that are not 0",
    )
    add_fork_arguments(parser)
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.cli.verbs.description.draw import read, report
    from caffecompat.draw.dot import DotOptions
    from caffecompat.draw.reading import diagram_of
    from caffecompat.draw.writing import check_picture_suffix, write_picture

    check_picture_suffix(arguments.target)
    definition, source = read(arguments)
    diagram = diagram_of(definition, source, arguments.phase, build_options(arguments))
    write_picture(arguments.target, diagram, DotOptions(arguments.rankdir, arguments.display_lrm))
    report(arguments.target, diagram)
    return 0
