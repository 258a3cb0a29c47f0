"""``caffecompat verify``: are our numbers those that another engine recorded?"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_max_bytes_argument

if TYPE_CHECKING:
    from caffecompat.net.analysis.replay import Difference

HELP = "replay recorded passes of Caffe and compare every blob and gradient"
EXAMPLE = """  caffecompat verify --recorded my_net.prototxt          (my_net.npz lies beside it)
  caffecompat verify --recorded cases/ --device cuda --rtol 1e-3
  Record a case on the old machine with tools/record_caffe.py."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recorded",
        nargs="+",
        required=True,
        metavar="PATH",
        help="prototxts with their .npz beside them; a folder means every such pair below it, "
        "and paths inside its prototxts are taken from it",
    )
    parser.add_argument(
        "--rtol",
        type=_tolerance,
        default=1e-4,
        help="allowed difference of a blob, as a part of its largest magnitude (at least 1); "
        "gradients may differ by twice as much (default: %(default)g)",
    )
    parser.add_argument(
        "--atol",
        type=_tolerance,
        default=0.0,
        help="absolute difference allowed besides (default: 0)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp64", "tf32", "bf16", "fp16"),
        default="fp32",
        help="arithmetic of the passes (default: fp32)",
    )
    add_max_bytes_argument(parser)


def _tolerance(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} must not be negative")
    return value


def run(arguments: argparse.Namespace) -> int:
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
        print(f"DIFFERS {case}: {first_line(error)}")
        return False
    if not differences:
        print(f"DIFFERS {case}: the record holds nothing to compare")
        return False
    worst = max(differences, key=lambda d: _excess(d, arguments))
    agrees = _excess(worst, arguments) <= 1
    verdict = "agrees " if agrees else "DIFFERS"
    detail = worst.note or f"absolute {worst.absolute:.2g}, relative {worst.relative:.2g}"
    print(f"{verdict} {case}: {len(differences)} arrays, worst {worst.key}: {detail}")
    return agrees


def _excess(difference: Difference, arguments: argparse.Namespace) -> float:
    """How far a difference is on its way to the limit; above 1 is too far."""
    rtol = arguments.rtol * (2 if difference.gradient else 1)
    if difference.absolute == 0:
        return 0.0
    scale = difference.absolute / difference.relative
    limit = arguments.atol + rtol * scale
    return difference.absolute / limit if limit > 0 else float("inf")
