"""``caffecompat localise``: the VGG paper's localisation protocols on annotated images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import device_of
from caffecompat.cli.image_arguments import (
    add_model_arguments,
    add_preparation_arguments,
    add_scale_arguments,
    add_skip_corrupt_argument,
    default_scales,
    preparation_of,
    read_model,
)
from caffecompat.cli.inference_arguments import compute_options
from caffecompat.cli.member_list import member_lines, parse_member

if TYPE_CHECKING:
    from caffecompat.evaluate.localisation.box_merging import MergeOptions
    from caffecompat.evaluate.localisation.localised_images import LocalisedImages
    from caffecompat.evaluate.localisation.protocol import LocalisationProtocol, Localiser

HELP = "localisation error of bounding-box nets under the VGG paper's protocols"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat localise --weights pcr.caffemodel --model D_PCR_deploy.prototxt \\
      --preprocessing vgg --boxes val_boxes.txt --root val/ --protocol gt-crop --scales 384
  caffecompat localise --nets nets.txt --preprocessing vgg --boxes val_boxes.txt --root val/ \\
      --protocol full --posteriors D.npz E.npz --draw pictures/
  torchrun --nproc-per-node 4 -m caffecompat localise ... --gpu all

Each line of the file of --nets has the arguments of one net; their boxes are merged together:
  --weights S384.caffemodel --model D_PCR_deploy.prototxt --scales 352,384"""

_MATCHES = ("distance-overlap", "overlap", "distance")
_AVERAGES = ("predictions", "pairs")
_THRESHOLD = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, required=False)
    parser.add_argument(
        "--nets", metavar="FILE", help="text file with the arguments of one net on each line"
    )
    _add_data_arguments(parser)
    add_preparation_arguments(parser)
    add_scale_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=("gt-crop", "full"),
        default="full",
        help="gt-crop: the box of the true class from the central crop; full: dense boxes of the "
        "most likely classes, merged (default: full)",
    )
    _add_merging_arguments(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write classes and boxes to an .npz or .h5; the same command after a kill goes on",
    )
    parser.add_argument(
        "--draw", metavar="DIR", help="write a picture of each image with its boxes, as PNG"
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boxes",
        metavar="LIST",
        help="list of images: name label xmin ymin xmax ymax, as convert-boxes writes it",
    )
    parser.add_argument("--root", default="", help="folder of the names in the list")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, for --draw")
    parser.add_argument(
        "--posteriors",
        nargs="+",
        metavar="FILE",
        help="class posteriors of the images, written by caffecompat evaluate --output; those of "
        "several files are averaged; for --protocol full",
    )
    parser.add_argument("--top", type=int, default=5, metavar="K", help="classes (default: 5)")
    add_skip_corrupt_argument(parser)


def _add_merging_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--match",
        choices=_MATCHES,
        default="distance-overlap",
        help="the match score of two boxes: the distance of their centres, divided by their mean "
        "side; 1 minus their overlap; or the sum of both; not published (default: the sum)",
    )
    parser.add_argument(
        "--match-threshold",
        type=float,
        default=_THRESHOLD,
        metavar="T",
        help="boxes with a match score up to this are merged; not published (default: 0.5)",
    )
    parser.add_argument(
        "--merge-average",
        choices=_AVERAGES,
        default="predictions",
        help="a merged box is the mean of all its predictions, or of the two boxes that were "
        "merged last; not published (default: predictions)",
    )
    parser.add_argument(
        "--score-weights",
        metavar="FILE",
        help="classification net that scores the window of each box (default: all windows of an "
        "image have its class posterior)",
    )
    parser.add_argument("--score-model", metavar="FILE", help="deploy prototxt of that net")


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.localisation.annotated_images import AnnotatedImages
    from caffecompat.evaluate.localisation.evaluation import LocalisationOptions, localise
    from caffecompat.reporting.glog import log_to_stderr
    from caffecompat.reporting.progress import show_progress
    from caffecompat.solver.distributed.process_group import join_ranks

    members = _members(arguments)
    with log_to_stderr(), join_ranks("cpu") as group:
        localisers = [_localiser(member) for member in members]
        gray = localisers[0].net.size.channels == 1
        images = AnnotatedImages(arguments.boxes, arguments.root, gray, arguments.max_bytes)
        names = _names(arguments)
        protocol = _protocol(arguments, localisers)
        # A dense pass takes long on a CPU, so each image shows progress.
        batch = 1 if arguments.protocol == "full" else 16
        with show_progress("images") as progress:
            shown = progress if group.first else None
            options = LocalisationOptions(batch, arguments.skip_corrupt, arguments.output)
            found = localise(images, protocol, options, group, shown)
        if group.first:
            _print_result(arguments, localisers, found)
        if group.first and arguments.draw:
            from caffecompat.evaluate.localisation.drawing import draw_pictures

            count = draw_pictures(arguments.draw, images, found, names)
            print(f"wrote {count:,} pictures to {arguments.draw}")
    return 0


def _members(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each net, checked before anything is read."""
    from caffecompat.errors import DataError
    from caffecompat.evaluate.array_file import check_output

    full = arguments.protocol == "full"
    if not arguments.boxes:
        raise DataError("--boxes is missing; give the list of images that convert-boxes writes")
    if full and not arguments.posteriors:
        raise DataError(
            "--protocol full predicts the classes by --posteriors FILE, which caffecompat "
            "evaluate --output writes; give it, or --protocol gt-crop"
        )
    if arguments.top < 1:
        raise DataError(f"--top is {arguments.top}, expected 1 or more classes")
    if arguments.output:
        check_output(arguments.output)
    if not arguments.match_threshold >= 0:
        raise DataError(
            f"--match-threshold is {arguments.match_threshold:g}, expected 0 or more: equal boxes "
            "have the match score 0"
        )
    if not arguments.nets:
        return [_checked(arguments, "the command")]
    members = _listed_members(arguments)
    if not full and len(members) > 1:
        raise DataError(
            f"{arguments.nets}: it lists {len(members)} nets, but --protocol gt-crop is for one"
        )
    return members


def _listed_members(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    from caffecompat.errors import DataError

    defaults = {**vars(arguments), "nets": None}
    members = [
        _checked(parse_member(words, place, add_arguments, defaults), place)
        for place, words in member_lines(arguments.nets, arguments.max_bytes)
    ]
    if not members:
        raise DataError(f"{arguments.nets}: it lists no nets; each line has arguments of one")
    return members


def _checked(arguments: argparse.Namespace, place: str) -> argparse.Namespace:
    from caffecompat.errors import DataError

    if not arguments.weights:
        raise DataError(f"{place}: --weights is missing; give the weights of a net for boxes")
    return arguments


def _localiser(member: argparse.Namespace) -> Localiser:
    from caffecompat.evaluate.localisation.box_net import BoxNet, WindowScores
    from caffecompat.evaluate.localisation.protocol import Localiser

    model = read_model(member, "localise")
    device, compute = device_of(member), compute_options(member)
    net = BoxNet(model, device, compute)
    scores = None
    if member.score_weights:
        changed = {"weights": member.score_weights, "model": member.score_model}
        other = read_model(argparse.Namespace(**{**vars(member), **changed}), "localise")
        scores = WindowScores(other, net, device, compute)
    scales = member.scales or default_scales(model)
    return Localiser(net, preparation_of(member, model), scales, scores)


def _protocol(arguments: argparse.Namespace, localisers: list[Localiser]) -> LocalisationProtocol:
    from caffecompat.evaluate.classification.posteriors import average, load
    from caffecompat.evaluate.localisation.protocols.full import Full, FullOptions
    from caffecompat.evaluate.localisation.protocols.ground_truth_class import GroundTruthClass

    if arguments.protocol == "gt-crop":
        return GroundTruthClass(localisers[0])
    options = FullOptions(_merging(arguments), arguments.flip, arguments.top)
    files = [load(name, arguments.max_bytes) for name in arguments.posteriors]
    return Full(localisers, average(files) if len(files) > 1 else files[0], options)


def _merging(arguments: argparse.Namespace) -> MergeOptions:
    from caffecompat.evaluate.localisation.box_merging import MergeOptions

    weighted = arguments.merge_average == "predictions"
    return MergeOptions(arguments.match, arguments.match_threshold, weighted)


def _names(arguments: argparse.Namespace) -> tuple[str, ...]:
    from caffecompat.export.convert.image_preparation import read_labels

    return read_labels(arguments.labels) if arguments.labels else ()


def _merging_choices(arguments: argparse.Namespace) -> list[str]:
    """What was chosen for the merging, and what else there is."""
    matches = [match for match in _MATCHES if match != arguments.match]
    averages = [name for name in _AVERAGES if name != arguments.merge_average]
    threshold = arguments.match_threshold
    default = "" if threshold == _THRESHOLD else f", not {_THRESHOLD:g}"
    scored = "scored by the posterior of the image, not of each window"
    if arguments.score_weights:
        scored = f"scored by {arguments.score_weights} for each window, not once for the image"
    return [
        f"merged up to a match score ({arguments.match}, not {' or '.join(matches)}) of "
        f"{threshold:g}{default}",
        f"mean of {arguments.merge_average}, not {averages[0]}",
        scored,
    ]


def _print_result(
    arguments: argparse.Namespace, localisers: list[Localiser], found: LocalisedImages
) -> None:
    from caffecompat.evaluate.open_choices import preparation_choices

    count = f"{len(found.indices):,} images"
    scales = "; ".join(", ".join(map(str, one.scales)) for one in localisers)
    prepared = preparation_choices(localisers[0].preparation.as_json())
    if arguments.protocol == "gt-crop":
        print("; ".join([f"{count}; true class, central crop at scale {scales}", *prepared]))
        print(f"  localisation error of the true class {100 * found.error:.2f} %")
        return
    parts = [
        f"{count}; dense at scale {scales}",
        "with flips" if arguments.flip else "no flips",
        *_merging_choices(arguments),
        *prepared,
    ]
    print("; ".join(parts))
    k = arguments.top
    print(
        f"  top-{k} localisation error {100 * found.error:.2f} %, "
        f"top-{k} error {100 * found.class_error:.2f} %"
    )
