"""Planned nets: the train net and the test nets of a solver, with their net states."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from caffecompat.errors import FileProblem, SolverError
from caffecompat.graph import build_graph, merge_state
from caffecompat.input_files import counterpart, folder_with
from caffecompat.layers import source_class
from caffecompat.net.definition import Definition, read_definition
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.solver.setup.settings import Settings

_TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


@dataclass(frozen=True)
class PlannedNet:
    """A net that a solver will build.

    Attributes:
        definition: of the net, read once.
        origin: the field (and file) it comes from, as Caffe's log names it.
        state: the merged NetState message: phase, level and stages.
        notes: log lines, one sentence each.
    """

    definition: Definition
    origin: str
    state: Message
    notes: tuple[str, ...] = ()


class NetPlanner:
    """Plans the nets of a solver; each file that the solver names is read once.

    Args:
        settings: of the solver.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: dict[str, Definition] = {}

    def train_net(self, level: int | None = None, stages: Sequence[str] = ()) -> PlannedNet:
        """The train net: phase TRAIN, the net's own ``state`` on top, then ``train_state``.

        Args:
            level: replaces the level of ``train_state``, as Caffe's command line always does; None
                leaves it.
            stages: added to the stages of ``train_state``.

        Raises:
            SolverError: the definition names no train net, or more than one.
            FileProblem, FormatError: the net file cannot be read.
        """
        message, place = self._settings.message, self._settings.place
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
                notes = (f"{place}: --level {level} replaces train_state's {wanted.level}",)
            wanted.level = level
        wanted.stage.extend(stages)
        plan = self._plan(getattr(message, given[0]), given[0], "TRAIN", wanted)
        return replace(plan, notes=notes)

    def test_nets(self) -> list[PlannedNet]:
        """The test nets in Caffe's order: test_net_param, test_net, then net or net_param.

        The last is repeated until every ``test_iter`` has a net.

        Raises:
            SolverError: test_iter, test_state or test_interval do not fit the test nets.
            FileProblem, FormatError: a net file cannot be read.
        """
        message, place = self._settings.message, self._settings.place
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
                f"{place}: test_interval is {message.test_interval}; with a test net it must be "
                "the number of iterations between two tests"
            )
        states = list(message.test_state) or [schema.new("NetState")] * count
        return [
            self._plan(source, field, "TEST", state)
            for (field, source), state in zip(sources, states, strict=True)
        ]

    def _plan(self, source: str | Message, field: str, phase: str, wanted: Message) -> PlannedNet:
        base = schema.new("NetState")
        base.phase = schema.enum_names("Phase")[phase]
        definition = self._definition(source, field)
        state = merge_state(base, definition.message.state, wanted)
        origin = f"{field} file: {source}" if isinstance(source, str) else field
        return PlannedNet(definition, origin, state)

    def _definition(self, source: str | Message, field: str) -> Definition:
        """The net that a field of the solver holds or names.

        Raises:
            FileProblem: it cannot be read; the message names the field and the folder.
        """
        lenient, max_bytes = self._settings.lenient, self._settings.max_bytes
        if not isinstance(source, str):
            return read_definition(source, lenient, max_bytes)
        if source not in self._read:
            try:
                self._read[source] = read_definition(Path(source), lenient, max_bytes)
            except FileProblem as error:
                if os.path.lexists(source):
                    raise
                folder = folder_with(source, self._settings.path)
                remedy = f"run from the folder that {field} was written for, or change {field}"
                if folder is not None:
                    start = shlex.quote(str(folder))
                    remedy = f"run from the folder that has it (cd {start}), or change {field}"
                elif (here := counterpart(source, self._settings.path)) is not None:
                    remedy = f"change {field} to {here}, if that is the net"
                raise FileProblem(f"{self._settings.place}: {field}: {error}; {remedy}") from error
        return self._read[source]


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
    """Images per pass by the definition; None for a net whose sources do not state it."""
    definition = plan.definition
    for node in build_graph(definition.message, plan.state, definition.place):
        source = source_class(node.message)
        batch = None if source is None else source.batch_size(node.message)
        if batch is not None:
            return batch
    return None


def scaled_plan(plan: PlannedNet, factor: Fraction) -> PlannedNet:
    """The net of ``plan`` with all batch sizes multiplied.

    For Caffe's convention for several GPUs, each of which works on the stated batch, the factor is
    their number.
    """
    scaled = schema.new("NetParameter")
    scaled.CopyFrom(plan.definition.message)
    for layer in scaled.layer:
        source = source_class(layer)
        if source is not None:
            source.scale_batch(layer, factor)
    return replace(plan, definition=replace(plan.definition, message=scaled))
