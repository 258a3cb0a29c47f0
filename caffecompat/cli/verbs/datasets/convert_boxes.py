"""``caffecompat convert-boxes``: annotations in XML to a list of images with boxes."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "write the bounding boxes of XML annotations (ILSVRC, PASCAL VOC) to a list"
EXAMPLE = """\
  caffecompat convert-boxes ILSVRC2012_bbox_val/ synsets.txt val_boxes.txt
  caffecompat convert-boxes VOC2007/Annotations/ classes.txt boxes.txt --suffix .jpg --one-based

A line of the list: name label xmin ymin xmax ymax, and four more numbers for each further object.
Pixels are counted from 0; xmax and ymax are the last ones in the box."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", metavar="FOLDER", help="folder tree of XML files")
    parser.add_argument(
        "classes",
        metavar="CLASSES",
        help="text file whose lines begin with the names of the classes, in order of their labels",
    )
    parser.add_argument("output", metavar="LIST", help="list to write; must not exist yet")
    parser.add_argument(
        "--suffix",
        default=".JPEG",
        metavar=".EXT",
        help="what the names of the images end with, in place of .xml (default: .JPEG)",
    )
    parser.add_argument(
        "--one-based",
        action="store_true",
        help="the annotations count pixels from 1, as PASCAL VOC does (default: from 0)",
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.data.sources.image_lists.image_list import read_class_names
    from caffecompat.data.tools.voc_boxes import VocOptions, convert_boxes
    from caffecompat.reporting.glog import log_to_stderr
    from caffecompat.reporting.progress import show_progress

    lines = read_class_names(arguments.classes, arguments.max_bytes)
    classes = [line.split()[0] if line.split() else "" for line in lines]
    options = VocOptions(arguments.suffix, arguments.one_based, arguments.max_bytes)
    with log_to_stderr(), show_progress("files") as progress:
        done = convert_boxes(arguments.annotations, classes, arguments.output, options, progress)
    print(f"wrote {arguments.output}: {done.lines:,} lines, {done.boxes:,} boxes")
    if done.without:
        print(
            f"{len(done.without):,} files without an object are left out, the first is "
            f"{done.without[0]}"
        )
    return 0
