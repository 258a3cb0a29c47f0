"""``caffecompat evaluate``: the VGG paper's test protocols on a set of images."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from caffecompat.cli.arguments import device_of, positive
from caffecompat.cli.image_arguments import (
    add_data_arguments,
    add_model_arguments,
    add_preparation_arguments,
    add_scale_arguments,
    add_skip_corrupt_argument,
    check_class_names,
    default_scales,
    open_data,
    preparation_of,
    read_model,
)
from caffecompat.cli.inference_arguments import compute_options
from caffecompat.cli.member_list import member_lines, parse_member

if TYPE_CHECKING:
    from pathlib import Path

    from caffecompat.evaluate.classification.posteriors import Posteriors
    from caffecompat.solver.distributed.process_group import ProcessGroup

HELP = "classification error under the VGG paper's protocols: center, dense, multi-crop, ensembles"
RUNS_NETS = True
EXAMPLE = """\
  caffecompat evaluate --weights vgg16.caffemodel --data val.txt --root val/ --protocol dense \\
      --scales 256,384,512 --output D.npz
  caffecompat evaluate --ensemble D.npz E.npz
  caffecompat evaluate --ensemble members.txt --data val.txt --root val/ --report report/
  torchrun --nproc-per-node 4 -m caffecompat evaluate ... --gpu all

Each line of an ensemble's file is a file of posteriors, or the arguments of one member:
  --weights D.caffemodel --model D_deploy.prototxt --scales 224,256,288 --protocol both"""

_PROTOCOLS = {
    "center": ("center",),
    "dense": ("dense",),
    "multicrop": ("multicrop",),
    "both": ("dense", "multicrop"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, required=False)
    add_data_arguments(parser, required=False)
    add_skip_corrupt_argument(parser)
    add_preparation_arguments(parser)
    add_scale_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=_PROTOCOLS,
        default="dense",
        help="center: the central crop; dense: the fully convolutional net on the whole image; "
        "multicrop: 5x5 crops; both: the mean of dense and multicrop (default: dense)",
    )
    parser.add_argument(
        "--average",
        choices=("scores", "posteriors"),
        default="scores",
        help="what dense evaluation averages over the map: class scores, before the softmax, or "
        "posteriors, after it; the paper does not say (default: scores)",
    )
    parser.add_argument(
        "--grid",
        choices=("border", "inside"),
        default="border",
        help="where the grid of crops ends: border: the outer crops touch the border of the image; "
        "inside: they are half a step away from it; the paper does not say (default: border)",
    )
    parser.add_argument(
        "--batch",
        type=positive,
        metavar="N",
        help="crops of the net's input size in a batch (default: 16, on a GPU 64)",
    )
    parser.add_argument(
        "--ensemble",
        nargs="+",
        metavar="FILE",
        help="average the posteriors of files that --output has written, or of the members "
        "that a text file lists",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="write the posteriors (with --ensemble their mean) to an .npz or .h5, for ensembles "
        "without a new run",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="write an HTML page with confusions and the worst mistakes"
    )


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.classification.posteriors import average, save
    from caffecompat.reporting.glog import log_to_stderr
    from caffecompat.solver.distributed.process_group import join_ranks

    members = _members(arguments)
    with log_to_stderr(), join_ranks("cpu") as group:
        results = [_posteriors(member, group) for member in members]
        if group.first:
            for member, found in zip(members, results, strict=True):
                _print_result(_title(member), found)
            whole = results[0]
            if len(results) > 1:
                whole = average(results)
                _print_result(f"mean of {len(results)} members", whole)
            if arguments.ensemble and arguments.output:
                save(whole, arguments.output)
            if arguments.report:
                facts = [
                    f"{_title(member)}: {_protocol(found.settings)}"
                    for member, found in zip(members, results, strict=True)
                ]
                print(f"wrote {_write_report(arguments, whole, facts)}")
    return 0


def _members(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The arguments of each member of the ensemble, or those of the command."""
    from caffecompat.errors import DataError
    from caffecompat.evaluate.array_file import SUFFIXES, check_output

    if arguments.report and not arguments.data:
        raise DataError("--report needs the images: give --data")
    if arguments.output:
        check_output(arguments.output)
    if not arguments.ensemble:
        return [_checked(arguments, "the command")]
    members = []
    for file in arguments.ensemble:
        if file.lower().endswith(SUFFIXES):
            members.append(argparse.Namespace(**vars(arguments), posteriors=file))
        else:
            members += _listed_members(arguments, file)
    return members


def _listed_members(arguments: argparse.Namespace, file: str) -> list[argparse.Namespace]:
    """The members in a text file; arguments that a line does not give are the command's."""
    from caffecompat.errors import DataError
    from caffecompat.evaluate.array_file import SUFFIXES

    defaults = {**vars(arguments), "ensemble": None, "output": None}
    members = []
    for place, words in member_lines(file, arguments.max_bytes):
        if len(words) == 1 and words[0].lower().endswith(SUFFIXES):
            members.append(argparse.Namespace(**vars(arguments), posteriors=words[0]))
        else:
            members.append(_checked(parse_member(words, place, add_arguments, defaults), place))
    if not members:
        raise DataError(
            f"{file}: it lists no members; each line is an .npz, an .h5, or has arguments"
        )
    return members


def _checked(arguments: argparse.Namespace, place: str) -> argparse.Namespace:
    from caffecompat.errors import DataError

    if not arguments.weights:
        raise DataError(f"{place}: --weights is missing; give those of the net")
    if not arguments.data:
        raise DataError(f"{place}: --data is missing; give a list or a folder of images")
    if arguments.unlabelled and not arguments.output:
        raise DataError(
            f"{place}: images without labels have no error; give --output FILE for their posteriors"
        )
    return argparse.Namespace(**vars(arguments), posteriors=None)


def _posteriors(member: argparse.Namespace, group: ProcessGroup) -> Posteriors:
    """The posteriors of one member, read or computed."""
    from caffecompat.evaluate.classification.evaluation import Evaluation, EvaluationOptions
    from caffecompat.evaluate.classification.posteriors import load
    from caffecompat.reporting.progress import show_progress

    if member.posteriors:
        return load(member.posteriors, member.max_bytes)
    model = read_model(member, "evaluate")
    device = device_of(member)
    options = EvaluationOptions(
        protocols=_protocols_of(member),
        scales=member.scales or default_scales(model),
        flip=member.flip,
        average=member.average,
        batch=member.batch or (16 if device.type == "cpu" else 64),
        skip_corrupt=member.skip_corrupt,
    )
    preparation = preparation_of(member, model)
    compute = compute_options(member)
    evaluation = Evaluation(model, preparation, options, device, compute)
    if member.labels:
        check_class_names(member.labels, evaluation.classes)
    images = open_data(member, evaluation.size.channels == 1)
    try:
        with show_progress("images") as progress:
            return evaluation.run(images, member.output, group, progress if group.first else None)
    finally:
        images.close()


def _protocols_of(member: argparse.Namespace) -> tuple[str, ...]:
    names = _PROTOCOLS[member.protocol]
    if member.grid == "border":
        return names
    return tuple("multicrop-inside" if name == "multicrop" else name for name in names)


def _title(member: argparse.Namespace) -> str:
    return str(member.posteriors or member.weights)


def _print_result(title: str, found: Posteriors) -> None:
    from caffecompat.evaluate.classification.error_rates import top_k_error

    labelled = found.labelled
    print(f"{title}: {len(found.names):,} images; {_protocol(found.settings)}")
    if not labelled.any():
        return
    values, labels = found.values[labelled], found.labels[labelled]
    errors = [
        f"top-{k} error {100 * top_k_error(values, labels, k):.2f} %"
        for k in (1, 5)
        if k == 1 or k < values.shape[1]
    ]
    print(f"  {', '.join(errors)}")


def _protocol(settings: dict[str, Any]) -> str:
    """How the posteriors were computed, for a reader of the report."""
    from caffecompat.evaluate.open_choices import evaluation_choices

    members = settings.get("average of")
    if members is not None:
        return "posteriors averaged"
    names = " and ".join(settings.get("protocols", [])).removesuffix("-inside")
    scales = ", ".join(map(str, settings.get("scales", [])))
    flips = "with flips" if settings.get("flip") else "no flips"
    return "; ".join([f"{names} at scale {scales}", flips, *evaluation_choices(settings)])


def _write_report(arguments: argparse.Namespace, found: Posteriors, facts: list[str]) -> Path:
    from caffecompat.evaluate.classification.report import ReportContent, write_report

    images = open_data(arguments, gray=False)
    try:
        names = images.class_names
        if arguments.labels:
            names = list(check_class_names(arguments.labels, found.values.shape[1]))
        title = f"Evaluation on {images.path}"
        content = ReportContent(title, facts, names)
        return write_report(arguments.report, content, found, images)
    finally:
        images.close()
