"""Verb ``convert-imageset``: images and a list of them to a database."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument, settings_of

HELP = "write images and their labels to a database (LMDB or LevelDB)"

EXAMPLE = """\
  caffecompat convert-imageset --encoded --min-side 256 --shuffle images/ train.txt train_lmdb
  caffecompat convert-imageset --encoded --min-side 256 --shuffle ILSVRC2012_train/ train_lmdb

  Each line of train.txt is a file name, one space, a label:
    cats/tabby one.jpg 281
  Without a list each sub-folder is a class; their names go to train_lmdb.labels.txt, in order of
  the labels. After an interruption the same command with --resume continues."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of Caffe's tool, and those of this package."""
    parser.add_argument("root", metavar="ROOT/", help="put before each name, with its slash")
    parser.add_argument(
        "list",
        metavar="LIST",
        nargs="?",
        help="text file: name and label, one per line; none: the folder tree ROOT/",
    )
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
        "--min-side",
        type=int,
        default=0,
        metavar="PIXELS",
        help="rescale, proportions kept, so that the smallest side has that many pixels",
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
    parser.add_argument("--backend", default="lmdb", help="lmdb or leveldb (default: lmdb)")
    _add_labels(parser)
    _add_work(parser)
    add_max_bytes_argument(parser)


def _add_labels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-labels", action="store_true", help="the lines of LIST are names alone; labels are 0"
    )
    parser.add_argument(
        "--number-labels",
        action="store_true",
        help="labels are words: number them in alphabetical order, write them to DB.labels.txt",
    )
    parser.add_argument(
        "--labels",
        default="",
        metavar="FILE",
        help="labels are words of this file, one per line, the first for label 0",
    )


def _add_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads (default: one per core, at most 16)"
    )
    parser.add_argument(
        "--on-error",
        default="skip",
        choices=("skip", "fail"),
        help="what to do with unreadable images: leave them out and log them (default), or stop",
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="delete the files of an interrupted run (DB.unfinished) and start again",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert; some unreadable images are logged and left out, which is no failure."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.convert_imageset import convert_imageset
    from caffecompat.data.tools.imageset_settings import ImagesetSettings

    settings = settings_of(ImagesetSettings, arguments)
    with logged_progress("images") as progress:
        convert_imageset(arguments.root, arguments.list, arguments.database, settings, progress)
    return 0
