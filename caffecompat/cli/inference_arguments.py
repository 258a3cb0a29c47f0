"""Arguments of the verbs that run nets without training them: precision and engine."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffecompat.solver.setup.compute import ComputeOptions

BATCHES = 10


def add_inference_arguments(parser: argparse.ArgumentParser) -> None:
    """``--precision``, ``--optimize``, ``--engine`` and what int8 is calibrated with."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16", "int8"),
        default="fp32",
        help="number format of convolutions and matrix products; with --optimize weights are "
        "converted once; int8 needs it (default: fp32)",
    )
    parser.add_argument(
        "--optimize",
        action="store_true",
        help="run the net in the fastest engine that is installed, and print what was done; "
        "results differ by rounding (docs/inference.md)",
    )
    parser.add_argument(
        "--engine",
        choices=(
            "torch",
            "onnxruntime",
            "onnxruntime-parts",
            "openvino",
            "openvino-parts",
            "fastest",
        ),
        help="the program that runs the optimized net; fastest measures those that are installed "
        "(implies --optimize; default: fastest)",
    )
    parser.add_argument(
        "--calibration",
        metavar="PROTOTXT",
        help="int8: net whose data layer (phase TEST) gives images to take the ranges of values "
        "from (default: --model, if it has a data layer)",
    )
    parser.add_argument(
        "--calibration-batches",
        type=int,
        default=BATCHES,
        metavar="N",
        help="int8: batches to read (default: %(default)s)",
    )


def compute_options(arguments: argparse.Namespace) -> ComputeOptions:
    """Precision and engine as the flags say.

    Raises:
        NetError: int8 without ``--optimize``, or a calibration net without images.
    """
    from caffecompat.errors import NetError
    from caffecompat.net.execution.inference import InferenceOptions
    from caffecompat.solver.setup.compute import ComputeOptions

    engine = arguments.engine or ("fastest" if arguments.optimize else "")
    if arguments.precision != "int8":
        return ComputeOptions(arguments.precision, engine=engine)
    if not engine:
        raise NetError(
            "--precision int8 is for optimized nets; add --optimize, and --calibration PROTOTXT if "
            "the net has no data layer"
        )
    if arguments.calibration is None:
        options = InferenceOptions(calibration=arguments.calibration_batches)
    else:
        from caffecompat.inference.calibration import batches_of_file

        batches = batches_of_file(arguments.calibration, arguments.calibration_batches)
        options = InferenceOptions(calibration=batches)
    return ComputeOptions(arguments.precision, engine=engine, inference=options)
