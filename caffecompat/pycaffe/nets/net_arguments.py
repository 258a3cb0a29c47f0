"""The arguments of ``caffe.Net``, in all forms that pycaffe takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffecompat.graph import TEST, TRAIN
from caffecompat.pycaffe.errors import ArgumentError
from caffecompat.reporting.glog import LOGGER

_FORMS = (
    "Net(network_file, phase, level=0, stages=None, weights=None), with phase caffe.TRAIN or "
    "caffe.TEST; the old form Net(network_file, weights, phase) works too"
)
_NAMES = ("network_file", "phase", "level", "stages", "weights")


@dataclass(frozen=True)
class NetArguments:
    """What a net is built from.

    Attributes:
        network_file: path of the prototxt.
        phase: ``TRAIN`` or ``TEST``.
        level, stages: of the net state.
        weights: path of a weight file, or None.
    """

    network_file: str
    phase: int
    level: int
    stages: Sequence[str]
    weights: str | None


def net_arguments(positional: Sequence[Any], named: dict[str, Any]) -> NetArguments:
    """The arguments of one call.

    Raises:
        ArgumentError: an argument is missing, unknown or of another type.
    """
    if len(positional) == 3 and isinstance(positional[1], (str, os.PathLike)):
        LOGGER.warning(
            "Net(network_file, weights, phase) is the old order of arguments; write "
            "Net(network_file, phase, weights=weights)"
        )
        positional, named = (positional[0], positional[2]), {"weights": positional[1], **named}
    if len(positional) > len(_NAMES):
        raise ArgumentError(f"{len(positional)} arguments were given; write {_FORMS}")
    given = dict(zip(_NAMES, positional, strict=False))
    for name, value in named.items():
        if name not in _NAMES or name in given:
            what = "is given twice" if name in given else "is unknown"
            raise ArgumentError(f"argument {name!r} {what}; write {_FORMS}")
        given[name] = value
    return _checked(given)


def _checked(given: dict[str, Any]) -> NetArguments:
    network, weights = given.get("network_file"), given.get("weights")
    for name, value in (("network_file", network), ("weights", weights)):
        if not isinstance(value, (str, os.PathLike)) and (value is not None or name != "weights"):
            raise ArgumentError(
                f"{name} must be the path of a file, found {type(value).__name__}; write {_FORMS}"
            )
    phase, level = given.get("phase"), given.get("level", 0)
    if isinstance(phase, bool) or phase not in (TRAIN, TEST):
        found = "none was given" if phase is None else f"found {phase!r}"
        raise ArgumentError(f"a phase is needed, {found}; write {_FORMS}")
    if not isinstance(level, int):
        raise ArgumentError(f"level must be an integer, found {level!r}; write {_FORMS}")
    stages = given.get("stages") or ()
    if isinstance(stages, str):
        raise ArgumentError(f"stages must be a list of strings: stages=[{stages!r}]")
    return NetArguments(
        os.fspath(network),  # type: ignore[arg-type]
        int(phase),
        level,
        list(stages),
        None if weights is None else os.fspath(weights),
    )
