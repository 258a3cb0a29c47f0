"""Arguments that several verbs share, with Caffe's names."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from caffecompat.input_files import check_input

if TYPE_CHECKING:
    import torch

    from caffecompat.layers import BuildOptions

Settings = TypeVar("Settings")

# The flags whose values are options of a net, and have their names.
_OPTIONS = ("level", "skip_corrupt", "allow_python", "lenient", "dialect", "max_bytes")


def positive(text: str) -> int:
    """The type of an argument that is a whole number from 1 on."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1 on")
    return number


def add_state_arguments(parser: argparse.ArgumentParser, whose: str = "") -> None:
    """``--level`` and ``--stage``: parts of the net state that include/exclude rules look at.

    Args:
        whose: an addition to the help, where the flags are about one of several nets.
    """
    parser.add_argument("--level", type=int, default=0, help=f"network level{whose} (default: 0)")
    parser.add_argument("--stage", default="", help=f"network stages{whose}, separated by commas")


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """``--layers`` and ``--on-mismatch``: which layers take their weights from ``--weights``."""
    parser.add_argument(
        "--layers",
        default="",
        help="load only these layers, separated by commas; * stands for anything (default: all)",
    )
    parser.add_argument(
        "--on-mismatch",
        choices=("error", "skip", "reinit"),
        default="error",
        help="a layer whose blobs do not fit ends the run, keeps its values, or is initialised by "
        "its fillers (default: error)",
    )


def add_trust_arguments(parser: argparse.ArgumentParser) -> None:
    """``--allow-python`` and ``--skip-corrupt``."""
    parser.add_argument(
        "--allow-python",
        action="store_true",
        help="run the code that the net's Python layers name; without it such a net is refused",
    )
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="replace a record that cannot be read by the next good one; each is named once",
    )


def add_lenient_argument(parser: argparse.ArgumentParser) -> None:
    """``--lenient``: unknown fields, and weights that match no layer, are notes, not errors."""
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="skip unknown fields with a note for each, and accept weights that match no layer of "
        "the net",
    )


def add_fork_arguments(parser: argparse.ArgumentParser) -> None:
    """``--lenient`` and ``--dialect``, for nets of forks of Caffe."""
    add_lenient_argument(parser)
    add_dialect_argument(parser)


def add_dialect_argument(parser: argparse.ArgumentParser) -> None:
    """``--dialect``, for layer types that forks define differently."""
    parser.add_argument(
        "--dialect",
        type=_dialect,
        default="",
        metavar="FORK",
        help="the fork of Caffe whose layer types are meant where forks define a type differently "
        "and the net does not tell, e.g. segnet; caffecompat layers TYPE names them",
    )


def _dialect(word: str) -> str:
    from caffecompat.errors import UnknownName
    from caffecompat.layers import catalogue

    try:
        catalogue.check_dialect(word)
    except UnknownName as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return word


ONE_GPU = "GPU id, or none; default: the CPU"


def add_device_arguments(parser: argparse.ArgumentParser, gpu: str = ONE_GPU) -> None:
    """``--gpu``, and ``--cpu``, which is the same as ``--gpu none``.

    Args:
        gpu: the help of ``--gpu``.
    """
    parser.add_argument("--gpu", default="", action=_Device, help=gpu)
    parser.add_argument(
        "--cpu",
        dest="gpu",
        nargs=0,
        const="none",
        action=_Device,
        help="compute on the CPU, whatever solver_mode says (as --gpu none, --gpu -1)",
    )


def device_of(arguments: argparse.Namespace) -> torch.device:
    """The device of ``--gpu``; the CPU without the flag.

    Raises:
        SolverError: the flag names several GPUs, or one that does not exist.
    """
    from caffecompat.solver.setup.device_choice import checked_device, flagged_device

    return checked_device(flagged_device(arguments.gpu) or "cpu")


class _Device(argparse.Action):
    """Stores the device of ``--gpu`` or ``--cpu``; of several the last, as in Caffe's tool."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.const is None:
            namespace.gpu = values
        else:
            namespace.cpu = True
        _refuse_two_devices(namespace)
        namespace.gpu = self.const or values


def _refuse_two_devices(namespace: argparse.Namespace) -> None:
    """Refuses ``--cpu`` beside a ``--gpu`` that names another device, in either order."""
    gpu = namespace.gpu
    if not gpu or not hasattr(namespace, "cpu"):
        return
    from caffecompat.solver.setup.device_choice import wants_cpu

    if not wants_cpu(gpu):
        raise argparse.ArgumentError(
            None, f"--cpu and --gpu {gpu} name different devices; give one of the two"
        )


def add_max_bytes_argument(parser: argparse.ArgumentParser) -> None:
    """``--max-bytes``: the size limit of input files, and of what they claim to hold."""
    parser.add_argument(
        "--max-bytes",
        type=int,
        metavar="N",
        help="read files of up to N bytes that take up to N bytes of memory (default: a limit for "
        "each kind of file, which the message about a larger file states)",
    )


def add_precision_argument(parser: argparse.ArgumentParser) -> None:
    """``--precision``: the number format of products."""
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16"),
        default="fp32",
        help="number format of convolutions and matrix products; weights stay fp32 (default: fp32)",
    )


def check_files(*paths: str) -> None:
    """Refuses files that are missing; called before torch is loaded, which takes seconds.

    Args:
        paths: values of flags; an empty one is that of a flag that was not given.

    Raises:
        FileProblem: a file is missing, not readable, or not a regular file.
    """
    for path in filter(None, paths):
        check_input(path)


def weight_files(arguments: argparse.Namespace) -> list[str]:
    """The files of ``--weights``, which are separated by commas; a later one wins.

    A file whose own name has a comma is taken as it is.
    """
    given: str = arguments.weights or ""
    if os.path.lexists(given):
        return [given]
    return [name for name in map(str.strip, given.split(",")) if name]


def layers(arguments: argparse.Namespace) -> list[str] | None:
    """The names and patterns of ``--layers``; None without the flag."""
    names = [name.strip() for name in str(arguments.layers).split(",")]
    return [name for name in names if name] or None


def stages(arguments: argparse.Namespace) -> list[str]:
    """The stage names; as in Caffe's tool no ``--stage`` is one stage with an empty name."""
    return str(arguments.stage).split(",")


def build_options(arguments: argparse.Namespace) -> BuildOptions:
    """The options of a net that the flags state; those without a flag have their defaults."""
    from caffecompat.layers import BuildOptions

    given = vars(arguments)
    chosen = {name: given[name] for name in _OPTIONS if name in given}
    if "stage" in given:
        chosen["stages"] = stages(arguments)
    return BuildOptions(**chosen)


def settings_of(kind: type[Settings], arguments: argparse.Namespace) -> Settings:
    """The settings of a job, a dataclass each of whose fields is a flag of the verb."""
    flags: Any = fields(kind)  # type: ignore[arg-type]
    return kind(**{flag.name: getattr(arguments, flag.name) for flag in flags})
