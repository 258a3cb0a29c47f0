"""Builds nets whose data are not there, to find what cannot be built."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffecompat.doctor.findings import Findings
from caffecompat.errors import (
    CaffeError,
    CodeNotAllowed,
    NetError,
    ShapesUnknown,
    WiringError,
    first_line,
)
from caffecompat.graph import build_graph, net_state
from caffecompat.graph.state import PHASES
from caffecompat.layers import Shape, source_class
from caffecompat.net import Net
from caffecompat.net.definition import Definition

# What stands for the shape of images that only the data tell: ImageNet's, MNIST's, CIFAR's.
ASSUMED_SHAPES = ((3, 224, 224), (1, 28, 28), (3, 32, 32))
_MOST_ASSUMED = 10


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
            findings.note(str(unknown))
            continue
        except CodeNotAllowed:
            # A Python layer's class runs only where the user allows it.
            continue
        except CaffeError as error:
            if _lacks_blobs(error):
                built.missing[phase] = error
            elif _has_layers(definition, phase):
                findings.error(str(error))
            continue
        for name, blobs in net.params.items():
            built.parameters[name] = [tuple(blob.shape) for blob in blobs]
    for phase, problem in built.missing.items():
        if len(built.missing) == len(phases):
            findings.error(str(problem))
        else:
            # One of a solver's train_net and test_net.
            place, sentence = findings.split(str(problem))
            findings.note(f"it cannot be built in phase {phase}: {sentence}", place)
    return built


class _DataUnknown(Exception):
    """Whether a net can be built depends on data that are not there."""


def _in_some_state(definition: Definition, phase: str, dialect: str, findings: Findings) -> Net:
    """The net without stages, or else with those of a rule, which a solver's state may name."""
    try:
        return _without_data(definition, phase, dialect, ())
    except NetError as error:
        closest: CaffeError = error
    for stages in _stages(definition)[:_MOST_ASSUMED]:
        shown = ", ".join(map(repr, stages))
        said = f"in phase {phase} it is built with the stage {shown}, not without"
        try:
            net = _without_data(definition, phase, dialect, stages)
        except (CodeNotAllowed, _DataUnknown):
            # It is wired so; what its Python layers or its data give, only a run tells.
            findings.note(said)
            raise
        except CaffeError as error:
            # A mistake in a layer says more than that blobs are not there in other stages.
            if _lacks_blobs(closest) and not _lacks_blobs(error):
                closest = error
            continue
        findings.note(said)
        return net
    raise closest


def _lacks_blobs(error: CaffeError) -> bool:
    return isinstance(error, WiringError) and bool(error.absent)


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
            if not shapes and not isinstance(error, ShapesUnknown):
                return _with_other_sizes(definition, phase, dialect, stages, error)
            errors[str(error)] = error
    first = next(iter(errors.values()))
    if isinstance(first, ShapesUnknown):
        raise _DataUnknown(
            f"{first.problem} without its data, so that the layers behind it are not examined"
        )
    if len(errors) == 1:
        raise first
    shape = "x".join(map(str, ASSUMED_SHAPES[0]))
    raise _DataUnknown(f"{first_line(first)} (with images of {shape}: its data are not there)")


def _with_other_sizes(
    definition: Definition, phase: str, dialect: str, stages: tuple[str, ...], error: CaffeError
) -> Net:
    """The net with images of another size, where a layer has only assumed the one that fails.

    Raises:
        CaffeError: ``error``: no layer has assumed one, or the net cannot be built with others.
    """
    named = [
        source.assumed_image(message)
        for message in definition.message.layer
        if (source := source_class(message)) is not None
    ]
    tops = [top for top in named if top]
    for assumed in ASSUMED_SHAPES if tops else ():
        try:
            return _with_shapes(
                definition, phase, dialect, stages, dict.fromkeys(tops, assumed), assumed
            )
        except CaffeError:
            continue
    raise error


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
        except ShapesUnknown as error:
            if not error.image or error.image in shapes or len(shapes) >= _MOST_ASSUMED:
                raise
            shapes[error.image] = assumed


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
