"""Which nets a solver trains and tests, and in which states."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from caffecompat.errors import FileProblem, SolverError
from caffecompat.graph import build_graph, merge_state
from caffecompat.graph.build import Place
from caffecompat.net.batch_shard import BATCH_FIELDS, stated_batch
from caffecompat.proto import schema
from caffecompat.proto.files import read_net
from caffecompat.proto.schema import Message
from caffecompat.solver.setup.settings import Settings

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


@dataclass(frozen=True)
class PlannedNet:
    """A net that a solver is going to build.

    Attributes:
        source: path of a net file, or a NetParameter message from inside the solver.
        origin: the field (and file) it comes from, in the words of Caffe's log.
        state: NetState message: phase, level and stages with everything laid over each other.
        notes: what its author may not expect, one sentence each.
        lenient: whether fields that nothing here knows are passed over.
    """

    source: str | Message
    origin: str
    state: Message
    notes: tuple[str, ...] = ()
    lenient: bool = False


def plan_train_net(
    settings: Settings, level: int | None = None, stages: Sequence[str] = ()
) -> PlannedNet:
    """The train net: phase TRAIN, the net's own ``state`` on top, then ``train_state``.

    Args:
        level: replaces the level of ``train_state``, as Caffe's command line always does; None
            leaves it.
        stages: added to the stages of ``train_state``.

    Raises:
        SolverError: no train net is named, or more than one.
        FileProblem, FormatError: the net file cannot be read.
    """
    message, place = settings.message, settings.place
    given = [name for name in _TRAIN_FIELDS if message.HasField(name)]
    if not given:
        raise SolverError(
            f"{place}: no train net; name one in {', '.join(_TRAIN_FIELDS[:-1])} or "
            f"{_TRAIN_FIELDS[-1]}"
        )
    if len(given) > 1:
        raise SolverError(f"{place}: {' and '.join(given)} each name a train net; keep one")
    wanted = schema.new("NetState")
    wanted.CopyFrom(message.train_state)
    notes: tuple[str, ...] = ()
    if level is not None:
        if wanted.level not in (0, level):
            notes = (f"{place}: --level {level} takes the place of train_state's {wanted.level}",)
        wanted.level = level
    wanted.stage.extend(stages)
    plan = _plan(getattr(message, given[0]), given[0], "TRAIN", wanted, settings)
    return replace(plan, notes=notes)


def plan_test_nets(settings: Settings) -> list[PlannedNet]:
    """The test nets in Caffe's order: test_net_param, test_net, then net or net_param.

    The last is repeated until every ``test_iter`` has a net.

    Raises:
        SolverError: test_iter, test_state or test_interval do not fit the test nets.
        FileProblem, FormatError: a net file cannot be read.
    """
    message, place = settings.message, settings.place
    sources = [("test_net_param", source) for source in message.test_net_param]
    sources += [("test_net", source) for source in message.test_net]
    common = [name for name in ("net_param", "net") if message.HasField(name)]
    _check_counts(message, place, len(sources), bool(common))
    if common:
        missing = len(message.test_iter) - len(sources)
        sources += [(common[0], getattr(message, common[0]))] * missing
    count = len(sources)
    if message.test_state and len(message.test_state) != count:
        raise SolverError(
            f"{place}: {len(message.test_state)} test_state entries for {count} test net(s); "
            "give none, or one for each"
        )
    if count and message.test_interval <= 0:
        raise SolverError(
            f"{place}: test_interval is {message.test_interval}; with a test net it must be the "
            "number of iterations between two tests"
        )
    states = list(message.test_state) or [schema.new("NetState")] * count
    return [
        _plan(source, field, "TEST", state, settings)
        for (field, source), state in zip(sources, states, strict=True)
    ]


def _check_counts(message: Message, place: str, explicit: int, common: bool) -> None:
    given = len(message.test_iter)
    if given < explicit or (given > explicit and not common):
        raise SolverError(
            f"{place}: {given} test_iter value(s) for {explicit} test net(s) named by test_net "
            "and test_net_param; give one test_iter for each test net"
        )
    if any(count < 0 for count in message.test_iter):
        raise SolverError(
            f"{place}: test_iter is {list(message.test_iter)}, it must not be negative"
        )


def planned_batch(plan: PlannedNet) -> int | None:
    """Images per pass by the definition; None for a net without a source that says it."""
    for node in build_graph(*_placed_definition(plan)):
        if node.bottoms:
            continue
        batch = stated_batch(node.message)
        if batch is not None:
            return batch
        shapes = [*node.message.dummy_data_param.shape, *node.message.input_param.shape]
        if shapes and shapes[0].dim:
            return int(shapes[0].dim[0])
    return None


def scaled_plan(plan: PlannedNet, definition: Message, factor: Fraction) -> PlannedNet:
    """The net of ``plan`` with all batch sizes of its ``definition`` multiplied."""
    scaled = schema.new("NetParameter")
    scaled.CopyFrom(definition)
    for layer in scaled.layer:
        for name in BATCH_FIELDS:
            if layer.HasField(name):
                parameter = getattr(layer, name)
                parameter.batch_size = int(parameter.batch_size * factor)
        for shape in layer.dummy_data_param.shape if layer.type == "DummyData" else ():
            shape.dim[0] = int(shape.dim[0] * factor)
    return replace(plan, source=scaled)


def plan_per_device(plan: PlannedNet, devices: int) -> PlannedNet:
    """Caffe's convention for several GPUs: each of ``devices`` works on the stated batch."""
    return scaled_plan(plan, definition_of(plan), Fraction(devices))


def definition_of(plan: PlannedNet) -> Message:
    """The NetParameter of a plan."""
    if isinstance(plan.source, str):
        return read_net(Path(plan.source), plan.lenient)[0]
    return plan.source


def _placed_definition(plan: PlannedNet) -> tuple[Message, Message, Place | None]:
    """The NetParameter of a plan, its state, and what tells the places of its layers."""
    if not isinstance(plan.source, str):
        return plan.source, plan.state, None
    message, lines = read_net(Path(plan.source), plan.lenient)
    return message, plan.state, lines.place


def _plan(
    source: str | Message, field: str, phase: str, wanted: Message, settings: Settings
) -> PlannedNet:
    lenient = settings.lenient
    base = schema.new("NetState")
    base.phase = schema.enum_names("Phase")[phase]
    if isinstance(source, str):
        own = _read_named_net(source, field, settings)
        state = merge_state(base, own.state, wanted)
        return PlannedNet(source, f"{field} file: {source}", state, lenient=lenient)
    return PlannedNet(source, field, merge_state(base, source.state, wanted), lenient=lenient)


def _read_named_net(source: str, field: str, settings: Settings) -> Message:
    """The net file that a field of the solver names.

    Raises:
        FileProblem: it cannot be read; the sentence says who names it, and seen from where.
    """
    try:
        return read_net(Path(source), settings.lenient)[0]
    except FileProblem as error:
        if os.path.lexists(source):
            raise
        raise FileProblem(
            f"{settings.place}: {field}: {error}; run from the folder that {field} was written "
            f"for, or change {field}"
        ) from error
