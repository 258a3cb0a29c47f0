"""Verb ``convert-annoset``: images and their boxes to a database for AnnotatedData layers."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument, settings_of

HELP = "write images and their boxes to a database (SSD's convert_annoset)"

EXAMPLE = """\
  caffecompat convert-annoset --anno_type detection --label_map_file labelmap_voc.prototxt \\
      --encoded VOCdevkit/ trainval.txt VOC0712_trainval_lmdb

  Each line of trainval.txt is an image and its annotation file, below VOCdevkit/:
    VOC2007/JPEGImages/000005.jpg VOC2007/Annotations/000005.xml"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of SSD's tool."""
    parser.add_argument("root", metavar="ROOT/", help="put before each name, with its slash")
    parser.add_argument("list", metavar="LIST", help="text file: image and annotation file")
    parser.add_argument("database", metavar="DB", help="folder to make; must not exist yet")
    parser.add_argument(
        "--anno-type",
        default="classification",
        choices=("classification", "detection"),
        help="one label per image, or boxes (default: classification)",
    )
    parser.add_argument(
        "--label-type",
        default="xml",
        choices=("xml", "json", "txt"),
        help="annotation files: PASCAL VOC's XML, JSON, or lines 'label xmin ymin xmax ymax' "
        "(default: xml)",
    )
    parser.add_argument(
        "--label-map-file", default="", metavar="FILE", help="names and numbers of the classes"
    )
    parser.add_argument(
        "--check-label", action="store_true", help="fail if the label map has a name twice"
    )
    parser.add_argument("--gray", action="store_true", help="read the images as grayscale")
    parser.add_argument("--shuffle", action="store_true", help="write them in random order")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of --shuffle (default: 0)"
    )
    for name, text in (
        ("min-dim", "enlarge images whose shorter side is less (default: 0, no limit)"),
        ("max-dim", "shrink images whose longer side is more (default: 0, no limit)"),
        ("resize-width", "new width; only together with the height (default: as it is)"),
        ("resize-height", "new height; only together with the width (default: as it is)"),
    ):
        parser.add_argument(f"--{name}", type=int, default=0, metavar="PIXELS", help=text)
    parser.add_argument(
        "--check-size", action="store_true", help="fail if the images differ in size"
    )
    parser.add_argument(
        "--encoded", action="store_true", help="store image files (JPEG, PNG), not pixels"
    )
    parser.add_argument(
        "--encode-type", default="", metavar="TYPE", help="store images as png or jpg"
    )
    parser.add_argument("--backend", default="lmdb", help="lmdb or leveldb (default: lmdb)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads (default: one per core, at most 16)"
    )
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert; unreadable images are logged and left out, which is no failure."""
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.data.tools.convert_annoset import AnnosetSettings, convert_annoset

    settings = settings_of(AnnosetSettings, arguments)
    with logged_progress("images") as progress:
        found = convert_annoset(
            arguments.root, arguments.list, arguments.database, settings, progress
        )
    print(f"{arguments.database}: {found.records} images, {found.boxes} boxes")
    return 0
