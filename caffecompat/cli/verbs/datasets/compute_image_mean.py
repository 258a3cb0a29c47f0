"""Verb ``compute-image-mean``: the mean image of a database, and its colours."""

from __future__ import annotations

import argparse

HELP = "average the images of a database, for mean_file and mean_value"

EXAMPLE = """\
  caffecompat compute-image-mean train_lmdb mean.binaryproto
  caffecompat compute-image-mean --channels train_lmdb > colours.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of Caffe's tool, and --channels."""
    parser.add_argument("database", metavar="DB", help="the database")
    parser.add_argument(
        "output", metavar="OUT", nargs="?", help="binaryproto to write; none: only print the means"
    )
    parser.add_argument("--backend", help="lmdb or leveldb (default: recognised by the files)")
    parser.add_argument(
        "--channels",
        action="store_true",
        help="print mean_value lines and the principal components of the colours as text to paste; "
        "without OUT the images may differ in size",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compute, log the mean of each channel, write the mean image if asked."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.backends.database import guess_backend
    from caffecompat.data.tools.compute_image_mean import compute_colours, compute_image_mean
    from caffecompat.data.transforms.colour_pca import ColourPCA, describe

    database, output = arguments.database, arguments.output
    backend = arguments.backend or guess_backend(database) or "lmdb"
    with logged_progress() as progress:
        if arguments.channels and not output:
            colours: ColourPCA | None = compute_colours(database, backend, progress)
        else:
            mean = compute_image_mean(database, output, backend, progress, arguments.channels)
            colours = mean.colours
    if colours is not None:
        print(describe(colours), end="")
    return 0
