"""A drawing of a net by Graphviz.

As Caffe's ``python/draw_net.py``::

    python -m caffecompat.pycaffe.scripts.draw_net train_val.prototxt net.png --phase TRAIN
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from caffecompat.proto.files import read_net
from caffecompat.pycaffe.draw import draw_net_to_file
from caffecompat.pycaffe.proto import caffe_pb2
from caffecompat.pycaffe.scripts.flags import run


def main(words: Sequence[str] | None = None) -> int:
    """Runs the script with the given words, or those of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caffecompat.pycaffe.scripts.draw_net",
        description="Draw a net; 'caffecompat draw' also shows shapes and parameter counts.",
    )
    parser.add_argument("input_net_proto_file", help="input network prototxt file")
    parser.add_argument("output_image_file", help="output image file: .png, .svg, .pdf, ...")
    parser.add_argument(
        "--rankdir",
        choices=("TB", "BT", "LR", "RL"),
        default="LR",
        help="direction, e.g. TB for top to bottom (default: LR)",
    )
    parser.add_argument(
        "--phase",
        choices=("TRAIN", "TEST", "ALL"),
        default="ALL",
        help="layers of this phase only (default: ALL)",
    )
    parser.add_argument(
        "--display_lrm",
        action="store_true",
        help="show the learning-rate multiplier of layers with weights",
    )
    return run(_draw, parser.parse_args(words))


def _draw(arguments: argparse.Namespace) -> None:
    net, _ = read_net(arguments.input_net_proto_file)
    phase = None if arguments.phase == "ALL" else caffe_pb2.Phase.Value(arguments.phase)
    print(f"Drawing net to {arguments.output_image_file}", flush=True)
    draw_net_to_file(
        net, arguments.output_image_file, arguments.rankdir, phase, arguments.display_lrm
    )


if __name__ == "__main__":
    raise SystemExit(main())
