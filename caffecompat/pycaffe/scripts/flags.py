"""Flags that the scripts share, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from caffecompat.errors import CaffeError
from caffecompat.weights.mean_file import read_mean_values

Array = NDArray[Any]


def add_net_arguments(parser: argparse.ArgumentParser) -> None:
    """The net and how images become its input."""
    parser.add_argument("--model_def", required=True, help="model definition file (prototxt)")
    parser.add_argument("--pretrained_model", required=True, help="trained model weights file")
    parser.add_argument("--gpu", action="store_true", help="switch for gpu computation")
    parser.add_argument(
        "--mean_file",
        default="",
        help="mean to subtract: .npy of one value per channel or of channels x height x width, or "
        ".binaryproto; of an image the mean of each channel is taken (default: none)",
    )
    parser.add_argument(
        "--input_scale", type=float, help="multiply input features by this after the mean"
    )
    parser.add_argument(
        "--raw_scale",
        type=float,
        default=255.0,
        help="multiply raw input, which is in [0, 1], by this before the mean (default: 255)",
    )
    parser.add_argument(
        "--channel_swap",
        type=_integers,
        metavar="N,N,N",
        help="order to permute input channels (default: 2,1,0, R,G,B to B,G,R, for nets of three "
        "channels)",
    )


def integer_pair(text: str) -> tuple[int, int]:
    """The type of a flag that takes a height and a width, as in ``256,256``."""
    values = _integers(text)
    if len(values) != 2 or min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected height,width, such as 256,256")
    return values[0], values[1]


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected whole numbers with commas between them, such as 2,1,0"
        ) from None


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keywords for Classifier and Detector; sets the device too.

    Raises:
        NetError: ``--gpu`` is given and there is none.
        FileProblem, FormatError: the mean cannot be read.
    """
    from caffecompat.pycaffe.mode import set_mode_cpu, set_mode_gpu

    if arguments.gpu:
        set_mode_gpu()
        print("GPU mode")
    else:
        set_mode_cpu()
        print("CPU mode")
    return {
        "mean": _channel_means(arguments.mean_file) if arguments.mean_file else None,
        "input_scale": arguments.input_scale,
        "raw_scale": arguments.raw_scale,
    }


def set_channel_swap(net: Any, swap: tuple[int, ...] | None) -> None:
    """Sets the order of channels; without one given, B, G, R for nets of three channels."""
    name = net.inputs[0]
    if swap is None:
        swap = (2, 1, 0) if net.blobs[name].data.shape[1] == 3 else ()
    if swap:
        net.transformer.set_channel_swap(name, swap)


def _channel_means(path: str) -> Array:
    mean = read_mean_values(path)
    return mean if mean.ndim == 1 else mean.mean(axis=(1, 2))


def run(script: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Runs a script; an error is printed as one sentence.

    Returns:
        the exit code: 0, or 1 after an error.
    """
    try:
        script(arguments)
    except CaffeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
