"""Builds nets whose data are not there, to find what cannot be built."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from caffecompat.doctor.findings import Findings, split_place
from caffecompat.errors import CaffeError, LayerError, NetError, first_line
from caffecompat.graph import build_graph, net_state
from caffecompat.layers import Shape, catalogue, source_class
from caffecompat.net import Net
from caffecompat.net.definition import Definition

PHASES = ("TRAIN", "TEST")
# What stands for the shape of images that only the data tell: ImageNet's, MNIST's, CIFAR's.
ASSUMED_SHAPES = ((3, 224, 224), (1, 28, 28), (3, 32, 32))
_MOST_ASSUMED = 10
_SHAPE_UNKNOWN = re.compile(r"state it with --shape ([^\s=]+)=")
_SHAPES_UNKNOWN = re.compile(r"the shapes of its tops are unknown")
_OF_OTHER_PHASE = re.compile(r": bottom '[^']*' exists only in phase (TRAIN|TEST)\b")


@dataclass
class Built:
    """The shapes of a net's parameters, and the phases for which it has no data layer: why."""

    parameters: dict[str, list[Shape]] = field(default_factory=dict)
    missing: dict[str, CaffeError] = field(default_factory=dict)


def build_without_data(definition: Definition, dialect: str, findings: Findings) -> Built:
    """Builds the net without data in its phases."""
    built = Built()
    phases = PHASES if reads_data(definition) else ("TEST",)
    for phase in phases:
        try:
            net = _in_some_state(definition, phase, dialect, findings)
        except _DataUnknown as unknown:
            findings.note(*split_place(str(unknown)))
            continue
        except LayerError as error:
            # A Python layer's class runs only where the user allows it.
            if not _stops_at_code(definition, error):
                findings.error(*split_place(str(error)))
            continue
        except CaffeError as error:
            if _OF_OTHER_PHASE.search(str(error)):
                built.missing[phase] = error
            elif _has_layers(definition, phase):
                findings.error(*split_place(str(error)))
            continue
        for name, blobs in net.params.items():
            built.parameters[name] = [tuple(blob.shape) for blob in blobs]
    for phase, problem in built.missing.items():
        sentence, place = split_place(str(problem))
        if len(built.missing) == len(phases):
            findings.error(sentence, place)
        else:
            # One of a solver's train_net and test_net.
            findings.note(f"it cannot be built in phase {phase}: {sentence}", place)
    return built


class _DataUnknown(Exception):
    """Whether a net can be built depends on data that are not there."""


def _in_some_state(definition: Definition, phase: str, dialect: str, findings: Findings) -> Net:
    """The net without stages, or else with those of a rule, which a solver's state may name."""
    try:
        return _without_data(definition, phase, dialect, ())
    except NetError:
        for stages in _stages(definition)[:_MOST_ASSUMED]:
            try:
                net = _without_data(definition, phase, dialect, stages)
            except CaffeError:
                continue
            shown = ", ".join(map(repr, stages))
            findings.note(f"in phase {phase} it is built with the stage {shown}, not without")
            return net
        raise


def _stages(definition: Definition) -> list[tuple[str, ...]]:
    """The stages that rules ask for, each once."""
    found = [tuple(rule.stage) for layer in definition.message.layer for rule in layer.include]
    return [stages for stages in dict.fromkeys(found) if stages]


def _without_data(definition: Definition, phase: str, dialect: str, stages: tuple[str, ...]) -> Net:
    """The net with assumed shapes for the tops that only the data tell.

    Raises:
        CaffeError: it cannot be built, whatever these shapes are.
        _DataUnknown: whether it can be built depends on them.
    """
    errors: dict[str, CaffeError] = {}
    for assumed in ASSUMED_SHAPES:
        shapes: dict[str, Shape] = {}
        try:
            return _with_shapes(definition, phase, dialect, stages, shapes, assumed)
        except CaffeError as error:
            if not shapes and not _SHAPES_UNKNOWN.search(str(error)):
                raise
            errors[str(error)] = error
    first = next(iter(errors.values()))
    unknown = _SHAPES_UNKNOWN.search(str(first))
    if unknown is not None:
        said = str(first)[: unknown.end()]
        raise _DataUnknown(
            f"{said} without its data, so that the layers behind it are not examined"
        )
    if len(errors) == 1:
        raise first
    shape = "x".join(map(str, ASSUMED_SHAPES[0]))
    raise _DataUnknown(f"{first_line(first)} (with images of {shape}: its data are not there)")


def _with_shapes(
    definition: Definition,
    phase: str,
    dialect: str,
    stages: tuple[str, ...],
    shapes: dict[str, Shape],
    assumed: Shape,
) -> Net:
    """The net with one assumed shape for all images, which are noted in ``shapes``."""
    while True:
        try:
            return Net(
                definition,
                phase=phase,
                stages=stages,
                shapes_only=True,
                shapes=shapes,
                dialect=dialect,
            )
        except CaffeError as error:
            unknown = _SHAPE_UNKNOWN.search(str(error))
            if unknown is None or unknown[1] in shapes or len(shapes) >= _MOST_ASSUMED:
                raise
            shapes[unknown[1]] = assumed


def reads_data(definition: Definition) -> bool:
    sources = map(source_class, definition.message.layer)
    return any(source is not None and not source.is_input for source in sources)


def _has_layers(definition: Definition, phase: str) -> bool:
    """Whether the net has layers in a phase; a net for one phase only is no mistake."""
    message = definition.message
    try:
        state = net_state(message, phase, 0, ())
        return bool(list(build_graph(message, state, definition.place, False)))
    except NetError:
        return True


def _stops_at_code(definition: Definition, error: LayerError) -> bool:
    if "allow_python" not in str(error):
        return False
    kinds: list[Any] = []
    for layer in definition.message.layer:
        kinds += catalogue.definitions(layer.type)
    return any(kind.imports_code for kind in kinds)
