"""Verb ``convert-imageset``: images and a list of them to a database."""

from __future__ import annotations

import argparse

HELP = "write images and their labels to a database (LMDB)"

EXAMPLE = """\
  caffecompat convert-imageset --resize-height 256 --resize-width 256 --shuffle images/ train.txt db

  Each line of train.txt is a file name, one space, a label:
    cats/tabby one.jpg 281"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of Caffe's tool, and --seed."""
    parser.add_argument("root", metavar="ROOT/", help="put before each name, with its slash")
    parser.add_argument("list", metavar="LIST", help="text file: name and label, one per line")
    parser.add_argument("database", metavar="DB", help="folder to make; must not exist yet")
    parser.add_argument("--gray", action="store_true", help="read the images as grayscale")
    parser.add_argument("--shuffle", action="store_true", help="write them in random order")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of --shuffle (default: 0)"
    )
    for side in ("width", "height"):
        parser.add_argument(
            f"--resize-{side}",
            type=int,
            default=0,
            metavar="PIXELS",
            help=f"new {side}; only together with the other one (default: as it is)",
        )
    parser.add_argument(
        "--check-size", action="store_true", help="fail if the images differ in size"
    )
    parser.add_argument(
        "--encoded", action="store_true", help="store image files (JPEG, PNG), not pixels"
    )
    parser.add_argument(
        "--encode-type",
        default="",
        metavar="TYPE",
        help="store images encoded as this (png, jpg); default: as each file is",
    )
    parser.add_argument("--backend", default="lmdb", help="kind of database (default: lmdb)")


def run(arguments: argparse.Namespace) -> int:
    """Convert; unreadable images are logged and left out, which is no failure."""
    from caffecompat.data.convert_imageset import Settings, convert_imageset
    from caffecompat.solver.log import log_to_stderr

    settings = Settings(
        gray=arguments.gray,
        shuffle=arguments.shuffle,
        seed=arguments.seed,
        resize_width=arguments.resize_width,
        resize_height=arguments.resize_height,
        check_size=arguments.check_size,
        encoded=arguments.encoded,
        encode_type=arguments.encode_type,
        backend=arguments.backend,
    )
    with log_to_stderr():
        convert_imageset(arguments.root, arguments.list, arguments.database, settings)
    return 0
