"""Settings: a solver definition that is read and checked before anything is built."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from caffecompat.errors import CaffeError, SolverError, UnknownName
from caffecompat.proto import schema
from caffecompat.proto.files import read_solver
from caffecompat.proto.fork_fields import effective_fields
from caffecompat.proto.schema import Message
from caffecompat.solver.optim import rate_limits
from caffecompat.solver.optim.optimizer import REGULARIZATIONS
from caffecompat.solver.optim.policies import Policy, policies
from caffecompat.solver.optim.rate_limits import RateLimits
from caffecompat.solver.optim.rules import UpdateRule, rules

Built = TypeVar("Built")

# SSD's tests: how the outputs of a test net are scored, and which average precision is taken.
EVAL_TYPES = ("classification", "detection")
AP_VERSIONS = ("11point", "MaxIntegral", "Integral")
FORK_FIELDS = (*rate_limits.FORK_FIELDS, "eval_type", "ap_version", "show_per_class_result")


@dataclass(frozen=True)
class Settings:
    """A checked solver definition.

    Attributes:
        message: the SolverParameter, upgraded.
        path: the solver file; None for a definition that was given as a message.
        policy: the learning-rate policy.
        limits: what changes the policy's rate.
        rule: the update rule.
        notes: warnings, one sentence each.
        lenient: whether unknown fields are ignored, in its nets too.
        max_bytes: the largest file to read, of its nets too; None for the limit of each kind.
    """

    message: Message
    path: str | None
    policy: Policy
    limits: RateLimits
    rule: UpdateRule
    notes: list[str] = field(default_factory=list)
    lenient: bool = False
    max_bytes: int | None = None

    @property
    def place(self) -> str:
        return place_of(self.path)


def place_of(path: str | None) -> str:
    return path if path is not None else "solver"


def read_settings(
    source: str | os.PathLike[str] | Message, lenient: bool = False, max_bytes: int | None = None
) -> Settings:
    """Reads and checks a solver definition.

    Args:
        source: path of a solver prototxt, or a SolverParameter message (which is copied).
        lenient: ignore unknown fields, with a note each.
        max_bytes: see :func:`caffecompat.proto.files.read_solver`.

    Raises:
        FileProblem, TextError: the file is missing or does not parse.
        UnknownName, SolverError: a setting is impossible; all such settings are reported at once.
    """
    path: str | None = None
    notes: list[str] = []
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        message, origin = read_solver(path, lenient, max_bytes)
        notes += [*origin.warnings, *origin.notes]
    else:
        message = schema.new("SolverParameter")
        if type(source) is not type(message):
            raise SolverError(
                "a solver is made from the path of a prototxt or from a SolverParameter message, "
                f"found {type(source).__name__}"
            )
        message.CopyFrom(source)
    place = place_of(path)
    notes += _choose_gpu(message)
    foreign = list(_foreign(message))
    if lenient:
        notes += [f"{sentence}; ignored" for sentence in foreign]
    misfits = [*_misfits(message), *_misfits_of_detection(message)]
    misfits += rate_limits.misfits(message)
    misfits += [] if lenient else [f"{sentence}; remove it" for sentence in foreign]
    problems: list[CaffeError] = [SolverError(f"{place}: {text}") for text in misfits]
    policy = _attempt(lambda: policies.find(message.lr_policy, place)(message, place), problems)
    rule = _attempt(lambda: rules.find(message.type, place)(message, place), problems)
    if message.regularization_type not in REGULARIZATIONS:
        name = message.regularization_type
        problems.append(UnknownName("regularization_type", name, REGULARIZATIONS, place))
    if len(problems) == 1:
        raise problems[0]
    if problems or policy is None or rule is None:
        raise SolverError("\n".join(str(problem) for problem in problems))
    notes += _remarks(message)
    return Settings(message, path, policy, RateLimits.of(message), rule, notes, lenient, max_bytes)


def _choose_gpu(message: Message) -> Iterator[str]:
    """Keeps the first GPU of a list, which forks give one process each."""
    listed = list(message.device_id_list)
    if listed:
        message.device_id = listed[0]
        message.ClearField("device_id_list")
        shown = ",".join(map(str, listed))
        yield (
            f"device_id lists {len(listed)} GPUs, of which the first counts; --gpu {shown} trains "
            "on all of them"
        )


def _attempt(make: Callable[[], Built], problems: list[CaffeError]) -> Built | None:
    try:
        return make()
    except CaffeError as error:
        problems.append(error)
        return None


def _misfits(message: Message) -> Iterator[str]:
    for name, least in (
        ("average_loss", 1),
        ("iter_size", 1),
        ("display", 0),
        ("snapshot", 0),
        ("max_iter", 0),
    ):
        value = getattr(message, name)
        if value < least:
            yield f"{name} is {value}, it must be at least {least}"
    if not math.isfinite(message.base_lr):
        yield f"base_lr is {message.base_lr}, it must be a finite number"
    if message.lr_policy == "plateau" and message.plateau_metric and 0 in message.test_iter:
        yield "test_iter is 0, but plateau_metric watches the tests; set it to 1 or more"


def _foreign(message: Message) -> Iterator[str]:
    known = set(FORK_FIELDS)
    if message.lr_policy in policies:
        known.update(policies.find(message.lr_policy).fork_fields)
    for one in effective_fields(message):
        # The layers of a net check the fields inside it.
        if "net_param." in one.path or one.path in known:
            continue
        if one.meaning is None:
            yield f"{one.path} comes from another Caffe version and is not known here"
        else:
            yield f"{one.path} is {one.meaning.sentence}; it is not supported"


def _misfits_of_detection(message: Message) -> Iterator[str]:
    """What is wrong with SSD's settings of tests."""
    for name, known in (("eval_type", EVAL_TYPES), ("ap_version", AP_VERSIONS)):
        value = getattr(message, name)
        if value not in known:
            yield f"{name} is {value!r}, it must be one of {', '.join(known)}"


def _remarks(message: Message) -> Iterator[str]:
    """Sentences about settings that are accepted but have less effect than expected."""
    if not message.HasField("base_lr"):
        yield "base_lr is not given: the learning rate is 0 and nothing will be learned"
    if message.base_lr < 0:
        yield (
            f"base_lr is {message.base_lr:g}: with a negative learning rate the loss rises; "
            "is the sign right?"
        )
    if message.lr_policy in ("step", "multistep", "exp", "plateau") and not message.gamma:
        yield f"gamma is not given: lr_policy {message.lr_policy!r} sets the rate to 0 by it"
    if os.sep == "/" and "\\" in message.snapshot_prefix:
        yield (
            f"snapshot_prefix {message.snapshot_prefix!r} has backslashes, which are parts of file "
            "names here: write / for folders"
        )
    if not message.HasField("max_iter"):
        yield "max_iter is not given: solving ends before the first iteration"
