"""``caffecompat classify``: the most likely classes of images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import device_of, positive
from caffecompat.cli.image_arguments import (
    add_image_arguments,
    add_model_arguments,
    add_preparation_arguments,
    add_scale_arguments,
    add_skip_corrupt_argument,
    check_class_names,
    default_scales,
    preparation_of,
    read_model,
)
from caffecompat.cli.inference_arguments import compute_options
from caffecompat.reporting.table import Column, print_table

if TYPE_CHECKING:
    from caffecompat.evaluate.classification.posteriors import Posteriors

HELP = "print the most likely classes of images"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat classify cat.jpg --weights vgg16.caffemodel --labels synset_words.txt
  caffecompat classify *.jpg --weights vgg16.caffemodel --json
  caffecompat classify cat.jpg --weights vgg16.caffemodel --picture cat-classes.png"""

_COLUMNS = (
    Column("image", shortens=True),
    Column("class", right=True),
    Column("name", shortens=True, is_name=True),
    Column("probability", right=True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(parser, "write the first image beside a bar chart of its classes")
    add_model_arguments(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="names of the classes, one per line (default: those in the model file, or in a "
        "synset_words.txt or labels.txt with as many lines beside it)",
    )
    add_preparation_arguments(parser)
    add_scale_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=("center", "dense", "multicrop"),
        default="center",
        help="central crop, whole image, or 5x5 crops (default: center)",
    )
    add_skip_corrupt_argument(parser)
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="classes per image (default: 5)"
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.reporting.glog import log_to_stderr

    with log_to_stderr():
        _classify(arguments)
    return 0


def _classify(arguments: argparse.Namespace) -> None:
    from caffecompat.evaluate.classification.class_order import order_warning
    from caffecompat.evaluate.classification.evaluation import Evaluation, EvaluationOptions
    from caffecompat.evaluate.images.inference_net import input_size
    from caffecompat.evaluate.images.labelled_images import ImageOptions, files_by_name
    from caffecompat.reporting.glog import LOGGER

    model = read_model(arguments, "classify")
    preparation = preparation_of(arguments, model)
    options = EvaluationOptions(
        (arguments.protocol,),
        arguments.scales or default_scales(model),
        arguments.flip,
        skip_corrupt=arguments.skip_corrupt,
    )
    if arguments.scales is None and arguments.protocol == "center":
        preparation = preparation.stretched(input_size(model).crop, arguments.interpolation)
    if preparation.stretch is not None:
        LOGGER.info(
            f"images are resized to {' x '.join(map(str, preparation.stretch))} "
            f"({preparation.interpolation}), as the model says; --scales keeps their shape"
        )
    compute = compute_options(arguments)
    evaluation = Evaluation(model, preparation, options, device_of(arguments), compute)
    if arguments.labels:
        check_class_names(arguments.labels, evaluation.classes)
    labels = model.preprocessing.labels if model.preprocessing else ()
    if not labels:
        labels = _names_beside(arguments, evaluation.classes)
    if labels and len(labels) != evaluation.classes:
        LOGGER.warning(
            f"{len(labels)} names of classes, but the net has {evaluation.classes} classes"
        )
    wrong_order = order_warning(Path(model.path), model.definition.message.name, labels)
    if wrong_order:
        LOGGER.warning(wrong_order)
    gray = evaluation.size.channels == 1
    images = files_by_name(arguments.images, ImageOptions(gray=gray, labelled=False))
    found = evaluation.run(images)
    top = min(arguments.top, evaluation.classes)
    if arguments.json:
        print(json.dumps(_as_json(found, labels, top), indent=1))
    else:
        _print_table(found, labels, top)
    if arguments.picture:
        print(f"wrote {_draw(arguments, found, labels, top)}")


def _names_beside(arguments: argparse.Namespace, classes: int) -> tuple[str, ...]:
    """The names of the classes in a file beside the weights or the definition."""
    from caffecompat.evaluate.classification.class_names import names_beside
    from caffecompat.reporting.glog import LOGGER

    paths = [Path(path) for path in (arguments.weights, arguments.model) if path]
    found = names_beside(paths, classes)
    if found is None:
        return ()
    LOGGER.info(f"names of the classes from {found[0]}")
    return found[1]


def _name(labels: tuple[str, ...], label: int) -> str:
    return labels[label] if label < len(labels) else ""


def _as_json(found: Posteriors, labels: tuple[str, ...], top: int) -> list[dict[str, object]]:
    from caffecompat.evaluate.classification.posteriors import best_classes

    return [
        {
            "image": name,
            "classes": [
                {"class": label, "name": _name(labels, label), "probability": round(value, 6)}
                for label, value in best_classes(values, top)
            ],
        }
        for name, values in zip(found.names, found.values, strict=True)
    ]


def _print_table(found: Posteriors, labels: tuple[str, ...], top: int) -> None:
    from caffecompat.evaluate.classification.posteriors import best_classes

    rows = []
    for name, values in zip(found.names, found.values, strict=True):
        for place, (label, value) in enumerate(best_classes(values, top)):
            shown = "" if place else name
            rows.append((shown, str(label), _name(labels, label), f"{value:.4f}"))
    print_table(_COLUMNS, rows)


def _draw(
    arguments: argparse.Namespace, found: Posteriors, labels: tuple[str, ...], top: int
) -> Path:
    from caffecompat.evaluate.classification.picture import draw_classes
    from caffecompat.evaluate.classification.posteriors import best_classes

    best = best_classes(found.values[0], top)
    named = [(_name(labels, label) or str(label), value) for label, value in best]
    return draw_classes(found.names[0], named, arguments.picture)
