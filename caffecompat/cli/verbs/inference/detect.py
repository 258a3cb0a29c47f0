"""``caffecompat detect``: the objects in images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import device_of
from caffecompat.cli.image_arguments import (
    add_image_arguments,
    add_model_arguments,
    add_value_arguments,
    read_model,
    value_preparation_of,
)
from caffecompat.cli.inference_arguments import compute_options
from caffecompat.reporting.table import Column, print_table

if TYPE_CHECKING:
    from caffecompat.data.codec.images import Pixels
    from caffecompat.evaluate.detection.detections import Detections
    from caffecompat.evaluate.detection.detector import Detector
    from caffecompat.export.model import CaffeModel

HELP = "find the objects in images"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat detect street.jpg --model deploy.prototxt --weights ssd300.caffemodel \\
      --preprocessing ssd --labelmap labelmap_voc.prototxt --picture street-boxes.png
  caffecompat detect *.jpg --model test.prototxt --weights faster_rcnn.caffemodel \\
      --preprocessing faster-rcnn --threshold 0.8 --json"""

_COLUMNS = (
    Column("image", shortens=True),
    Column("class", right=True),
    Column("name", shortens=True, is_name=True),
    Column("score", right=True),
    *(Column(edge, right=True) for edge in ("xmin", "ymin", "xmax", "ymax")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(
        parser, "draw the boxes into the image; of further images into FILE-2.png and so on"
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="leave out what has a score below X, 0 to 1 (default: 0.5)",
    )
    parser.add_argument(
        "--labelmap",
        metavar="FILE",
        help="names of the classes: SSD's label map, or one per line from class 0 on",
    )
    add_value_arguments(parser)
    parser.add_argument(
        "--min-side",
        type=int,
        default=600,
        metavar="PIXELS",
        help="Faster R-CNN: shorter side that images are scaled to (default: 600)",
    )
    parser.add_argument(
        "--max-side",
        type=int,
        default=1000,
        metavar="PIXELS",
        help="Faster R-CNN: largest longer side (default: 1000)",
    )
    parser.add_argument(
        "--side-multiple",
        type=int,
        default=32,
        metavar="N",
        help="PVANet: both sides are cut to multiples of it (default: 32)",
    )
    parser.add_argument(
        "--nms",
        type=float,
        default=0.3,
        metavar="X",
        help="Faster R-CNN: largest overlap of two boxes of a class (default: 0.3)",
    )
    parser.set_defaults(labels=None)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.detection.detector import DetectorOptions, open_detector
    from caffecompat.evaluate.detection.picture import draw_detections, write_picture
    from caffecompat.evaluate.images.labelled_images import ImageOptions, files_by_name
    from caffecompat.reporting.progress import ProgressLines

    _check(arguments)
    model = read_model(arguments, "detect")
    options = DetectorOptions(
        device=device_of(arguments),
        compute=compute_options(arguments),
        dialect=arguments.dialect,
        min_side=arguments.min_side,
        max_side=arguments.max_side,
        side_multiple=arguments.side_multiple,
        nms_threshold=arguments.nms,
        least_score=arguments.threshold,
    )
    name = _names(arguments, model)
    presets = "ssd (or mobilenet-ssd, faster-rcnn, none)"
    detector = open_detector(model, value_preparation_of(arguments, model, presets), options)
    images = files_by_name(arguments.images, ImageOptions(gray=_gray(detector), labelled=False))
    found: list[Detections] = []
    written: list[Path] = []
    progress = ProgressLines("images")
    for index in range(len(images)):
        pixels: Pixels = images.read(index).pixels
        found.append(detector(pixels).above(arguments.threshold))
        if arguments.picture:
            drawn = draw_detections(pixels, found[-1], name)
            written.append(write_picture(drawn, _numbered(arguments.picture, index)))
        progress(index + 1, len(images))
    if arguments.json:
        print(json.dumps(_as_json(arguments.images, found, name), indent=1))
    else:
        _print_table(arguments.images, found, name)
        for path in written:
            print(f"wrote {path}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from caffecompat.errors import DataError

    if not 0 <= arguments.threshold <= 1:
        raise DataError(f"--threshold is {arguments.threshold:g}, expected 0 to 1")
    if not 0 < arguments.min_side <= arguments.max_side:
        raise DataError(
            f"--min-side is {arguments.min_side} and --max-side is {arguments.max_side}; give "
            "positive numbers, in this order"
        )
    if arguments.side_multiple < 1:
        raise DataError(f"--side-multiple is {arguments.side_multiple}, expected 1 or more")


def _gray(detector: Detector) -> bool:
    shapes = [detector.net.blobs[name].shape for name in detector.net.inputs]
    return any(len(shape) == 4 and shape[1] == 1 for shape in shapes)


def _names(arguments: argparse.Namespace, model: CaffeModel) -> Callable[[int], str]:
    """The name of a class by its label; the label where it has no name."""
    names: dict[int, str] = {}
    if arguments.labelmap:
        names = _read_names(arguments.labelmap, arguments.max_bytes)
    elif model.preprocessing is not None:
        names = dict(enumerate(model.preprocessing.labels))
    return lambda label: names.get(label, str(label))


def _read_names(path: str, max_bytes: int | None) -> dict[int, str]:
    from caffecompat.data.label_map import read_label_map
    from caffecompat.export.convert.image_preparation import read_labels
    from caffecompat.input_files import read_input

    if read_input(path, max_bytes).lstrip().startswith((b"item", b"#")):
        return read_label_map(path, max_bytes).display_names
    return dict(enumerate(read_labels(path)))


def _numbered(path: str, index: int) -> str:
    """``boxes.png`` for the first image, ``boxes-2.png`` for the second."""
    if not index:
        return path
    place = Path(path)
    return str(place.with_name(f"{place.stem}-{index + 1}{place.suffix}"))


def _as_json(
    images: list[str], found: list[Detections], name: Callable[[int], str]
) -> list[dict[str, object]]:
    return [
        {
            "image": image,
            "detections": [
                {
                    "class": label,
                    "name": name(label),
                    "score": round(score, 6),
                    "box": [round(edge, 2) for edge in box],
                }
                for label, score, box in _entries(own)
            ],
        }
        for image, own in zip(images, found, strict=True)
    ]


def _entries(found: Detections) -> list[tuple[int, float, list[float]]]:
    columns = (found.labels.tolist(), found.scores.tolist(), found.boxes.tolist())
    return list(zip(*columns, strict=True))


def _print_table(images: list[str], found: list[Detections], name: Callable[[int], str]) -> None:
    rows = []
    for image, own in zip(images, found, strict=True):
        for place, (label, score, box) in enumerate(_entries(own)):
            edges = (f"{edge:.0f}" for edge in box)
            shown = "" if place else image
            rows.append((shown, str(label), name(label), f"{score:.4f}", *edges))
        if not len(own):
            rows.append((image, "", "nothing found", "", "", "", "", ""))
    print_table(_COLUMNS, rows)
