"""Verb ``resize-and-crop-images``: square images of one size."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "make square images of one size: rescale, cut the middle"

EXAMPLE = """\
  caffecompat resize-and-crop-images --input-folder images --output-folder images256
  (convert-imageset --min-side 256 rescales while it makes a database, and cuts nothing)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of Caffe's script."""
    parser.add_argument("--input-folder", required=True, metavar="DIR", help="where the images are")
    parser.add_argument("--output-folder", required=True, metavar="DIR", help="where results go")
    parser.add_argument(
        "--input", metavar="LIST", help="names below the input folder; none: all images in it"
    )
    parser.add_argument(
        "--output-side-length", type=int, default=256, metavar="PIXELS", help="(default: 256)"
    )
    parser.add_argument(
        "--num-clients", type=int, metavar="N", help="threads (default: one per core, at most 16)"
    )
    parser.add_argument("--image-lib", default="opencv", help="opencv, the only one here")
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Resize and crop; unreadable images are logged and left out."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.resize_and_crop import resize_and_crop_images
    from caffecompat.errors import DataError

    if arguments.image_lib.lower() != "opencv":
        raise DataError(f"--image-lib is {arguments.image_lib!r}; only opencv is supported")
    if arguments.num_clients is not None and arguments.num_clients < 1:
        raise DataError(f"--num-clients is {arguments.num_clients}, expected 1 or more")
    with logged_progress("images") as progress:
        written, left_out = resize_and_crop_images(
            arguments.input_folder,
            arguments.output_folder,
            arguments.input,
            arguments.output_side_length,
            arguments.num_clients,
            progress,
            arguments.max_bytes,
        )
    print(f"{arguments.output_folder}: {written:,} images, {left_out:,} could not be read")
    return 0
