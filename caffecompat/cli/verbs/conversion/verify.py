"""``caffecompat verify``: do two programs compute the same from one model?"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_dialect_argument, add_max_bytes_argument
from caffecompat.reporting.terminal import printable
from caffecompat.reporting.units import counted

if TYPE_CHECKING:
    from caffecompat.export.engines.base import Arrays, Engine
    from caffecompat.export.verify.verification import Comparison
    from caffecompat.net.analysis.replay import Difference

HELP = "compare a model in two programs, or with passes that Caffe recorded"
EXAMPLE = """  caffecompat verify vgg16.caffemodel vgg16.onnx --model deploy.prototxt
  caffecompat verify vgg16.onnx opencv:vgg16.onnx --layers --plot layers.png
  caffecompat verify --recorded my_net.prototxt          (my_net.npz lies beside it)
  caffecompat verify --recorded cases/ --device cuda --rtol 1e-3
  Record a case on the old machine with tools/record_caffe.py."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "engines",
        nargs="*",
        metavar="FILE",
        help="two model files: weights (with --model) run here, .onnx in ONNX Runtime, .pt2 and "
        ".py in torch, .npz holds recorded values; opencv:FILE.onnx runs in OpenCV, and "
        "opencv-caffe:FILE.caffemodel in OpenCV 4, see --opencv-python",
    )
    parser.add_argument("--model", metavar="PROTOTXT", help="net definition of weight files")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="compare every layer, say where two files diverge first, and guess the cause",
    )
    parser.add_argument("--plot", metavar="PNG", help="with --layers: a picture of the differences")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    parser.add_argument(
        "--trust", action="store_true", help="also run .pt2 files, which may contain code"
    )
    parser.add_argument(
        "--allow-python",
        action="store_true",
        help="also run .py files (an nn.Module as convert writes it), with the other file's "
        "weights; such a file is a program, so read it before",
    )
    parser.add_argument(
        "--opencv-python",
        default="",
        metavar="PYTHON",
        help="the Python whose OpenCV runs opencv-caffe: files, such as ~/opencv4/bin/python where "
        "this one has OpenCV 5 (default: this one)",
    )
    _add_recorded_arguments(parser)
    add_dialect_argument(parser)
    add_max_bytes_argument(parser)


def _add_recorded_arguments(parser: argparse.ArgumentParser) -> None:
    """Recorded cases, how they are replayed, and what may differ."""
    parser.add_argument(
        "--recorded",
        nargs="+",
        metavar="PATH",
        help="prototxts with their .npz beside them; a folder means every such pair below it, "
        "and paths inside its prototxts are taken from it",
    )
    parser.add_argument(
        "--rtol",
        type=_tolerance,
        default=1e-4,
        help="allowed difference, as a part of the largest magnitude (of recorded blobs at least "
        "1; their gradients may differ by twice as much) (default: %(default)g)",
    )
    parser.add_argument(
        "--atol",
        type=_tolerance,
        default=0.0,
        help="with --recorded: absolute difference allowed besides (default: 0)",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="with --recorded: cpu, cuda or cuda:N (default: cpu)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp64", "tf32", "bf16", "fp16"),
        default="fp32",
        help="with --recorded: arithmetic of the passes (default: fp32)",
    )


def _tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must not be negative")
    return value


def run(arguments: argparse.Namespace) -> int:
    if arguments.recorded is None and len(arguments.engines) == 2:
        return _compare(arguments)
    if arguments.recorded is not None and not arguments.engines:
        return _replay(arguments)
    print("verify: give two model files, or --recorded and recorded cases", file=sys.stderr)
    return 2


def _compare(arguments: argparse.Namespace) -> int:
    from caffecompat.export.verify.verification import compare

    first, second, values = _run_both(arguments)
    comparison = compare(*values, arguments.rtol, {*first.loose, *second.loose})
    _print_differences(comparison)
    print(_verdict(comparison, arguments))
    if not comparison.agrees and arguments.layers:
        _explain(comparison, first, second, values)
    if arguments.plot:
        from caffecompat.export.verify.difference_plot import plot_differences

        plot_differences(comparison, arguments.plot)
        print(f"wrote {arguments.plot}")
    return 0 if comparison.agrees else 1


def _run_both(arguments: argparse.Namespace) -> tuple[Engine, Engine, tuple[Arrays, Arrays]]:
    """Both engines, and their values on the same inputs; logs what takes long."""
    from caffecompat.export.engines.base import EngineOptions, open_pair
    from caffecompat.export.verify.inputs import draw_inputs
    from caffecompat.export.verify.verification import run_both
    from caffecompat.reporting.activity import Activity, heartbeat
    from caffecompat.reporting.glog import LOGGER, log_to
    from caffecompat.reporting.progress import console_handler

    options = EngineOptions(
        arguments.model,
        arguments.trust,
        arguments.max_bytes,
        arguments.allow_python,
        dialect=arguments.dialect,
        opencv_python=arguments.opencv_python,
    )
    activity = Activity()
    with log_to(console_handler()), heartbeat(activity, LOGGER):
        with activity.during(f"loading {' and '.join(arguments.engines)}"):
            first, second = open_pair(arguments.engines, options)
        with activity.during("running both"):
            inputs = draw_inputs(first, second, arguments.seed)
            return first, second, run_both(first, second, inputs, arguments.layers)


def _print_differences(comparison: Comparison) -> None:
    from caffecompat.reporting.table import Column, print_table
    from caffecompat.reporting.units import format_shape

    columns = [
        Column("value", shortens=True, is_name=True),
        Column("shape", rank=1),
        Column("absolute", right=True),
        Column("relative", right=True),
        Column(""),
    ]
    rows = [
        [
            d.name,
            format_shape(d.shape),
            f"{d.absolute:.2g}",
            f"{d.relative:.2g}",
            d.note or ("" if d.relative <= comparison.tolerance else "DIFFERS"),
        ]
        for d in comparison.differences
    ]
    print_table(columns, rows)


def _verdict(comparison: Comparison, arguments: argparse.Namespace) -> str:
    first, second = arguments.engines
    values = counted(len(comparison.differences), "value")
    limit = f"{comparison.tolerance:g} of the largest magnitude"
    if comparison.agrees:
        return f"agree: {first} and {second}, {values} within {limit}"
    worst = comparison.worst
    return (
        f"DIFFER: {first} and {second}, {worst.name!r} by {worst.relative:.2g}, allowed is {limit}"
    )


def _explain(
    comparison: Comparison, first: Engine, second: Engine, values: tuple[Arrays, Arrays]
) -> None:
    from caffecompat.export.verify.diagnosis import diagnose

    assert comparison.first is not None
    print(f"first difference: {comparison.first.name!r}")
    print(printable(diagnose(comparison.first.name, (first, second), values)))


def _replay(arguments: argparse.Namespace) -> int:
    """Replays recorded passes; see caffecompat.net.analysis.replay."""
    from caffecompat.net.analysis.replay import find_cases
    from caffecompat.net.execution.device import usable_device

    usable_device(arguments.device)
    agree = differ = 0
    for path in arguments.recorded:
        with _inside(path):
            for case in find_cases("." if os.path.isdir(path) else path):
                if _verify(case, arguments):
                    agree += 1
                else:
                    differ += 1
    print(f"{agree} agree, {differ} differ")
    return 1 if differ else 0


@contextlib.contextmanager
def _inside(path: str) -> Iterator[None]:
    """Works in a folder of cases, as its recorder did; a single case stays where the user is."""
    before = os.getcwd()
    if os.path.isdir(path):
        os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)


def _verify(case: Path, arguments: argparse.Namespace) -> bool:
    """Prints the case's line; whether it agrees."""
    from caffecompat.errors import CaffeError, first_line
    from caffecompat.net.analysis.replay import replay

    try:
        differences = replay(case, arguments.device, arguments.precision, arguments.max_bytes)
    except CaffeError as error:
        print(printable(f"DIFFERS {case}: {first_line(error)}"))
        return False
    if not differences:
        print(f"DIFFERS {case}: the record holds nothing to compare")
        return False
    worst = max(differences, key=lambda d: _excess(d, arguments))
    agrees = _excess(worst, arguments) <= 1
    verdict = "agrees " if agrees else "DIFFERS"
    detail = worst.note or f"absolute {worst.absolute:.2g}, relative {worst.relative:.2g}"
    found = f"{len(differences)} arrays, worst {worst.key}: {detail}"
    print(printable(f"{verdict} {case}: {found}"))
    return agrees


def _excess(difference: Difference, arguments: argparse.Namespace) -> float:
    """A difference as a share of its limit; above 1 it is too large."""
    rtol = arguments.rtol * (2 if difference.gradient else 1)
    if difference.absolute == 0:
        return 0.0
    scale = difference.absolute / difference.relative
    limit = arguments.atol + rtol * scale
    return difference.absolute / limit if limit > 0 else float("inf")
