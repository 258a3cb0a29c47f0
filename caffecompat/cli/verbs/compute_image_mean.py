"""Verb ``compute-image-mean``: the mean image of a database."""

from __future__ import annotations

import argparse

HELP = "average the images of a database, for mean_file and mean_value"

EXAMPLE = "  caffecompat compute-image-mean train_lmdb mean.binaryproto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's tool."""
    parser.add_argument("database", metavar="DB", help="the database")
    parser.add_argument(
        "output", metavar="OUT", nargs="?", help="binaryproto to write; none: only print the means"
    )
    parser.add_argument("--backend", default="lmdb", help="kind of database (default: lmdb)")


def run(arguments: argparse.Namespace) -> int:
    """Compute, log the mean of each channel, write the mean image if asked."""
    from caffecompat.data.image_mean import compute_image_mean
    from caffecompat.solver.log import log_to_stderr

    with log_to_stderr():
        compute_image_mean(arguments.database, arguments.output, arguments.backend)
    return 0
