"""Examines net definitions: dialect, layer types, fields, Python layers, shapes."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from caffecompat.doctor.findings import FileReport, Findings, Severity
from caffecompat.doctor.project import ProjectFile
from caffecompat.errors import CaffeError, LayerError, NetError, TextError, UnknownName, first_line
from caffecompat.graph import build_graph, net_state
from caffecompat.input_files import folder_with
from caffecompat.layers import Layer, Shape, catalogue, source_class
from caffecompat.layers.forks._known_types import origin_of
from caffecompat.net import Net
from caffecompat.net.definition import Definition, read_definition
from caffecompat.proto import files
from caffecompat.proto.fork_fields import effective_fields, foreign_settings
from caffecompat.proto.schema import Message

PHASES = ("TRAIN", "TEST")
# What stands for the shape of images that only the data tell: ImageNet's, MNIST's, CIFAR's.
ASSUMED_SHAPES = ((3, 224, 224), (1, 28, 28), (3, 32, 32))
_MOST_ASSUMED = 10
_SHAPE_UNKNOWN = re.compile(r"state it with --shape ([^\s=]+)=")
_SHAPES_UNKNOWN = re.compile(r"the shapes of its tops are unknown")
_UNKNOWN_FIELD = re.compile(r"unknown field|has no field")


@dataclass
class ExaminedNet:
    """A net definition and what was found in it.

    Attributes:
        definition: None if it cannot be read.
        parameters: the shapes of the parameters by layer, as far as the net can be built.
        upgraded: whether reading changed it, so that an upgraded copy differs.
    """

    file: ProjectFile
    report: FileReport
    definition: Definition | None = None
    parameters: dict[str, list[Shape]] = field(default_factory=dict)
    upgraded: bool = False


def examine_net(
    file: ProjectFile,
    modules: Mapping[str, Path],
    dialect: str = "",
    max_bytes: int | None = None,
) -> ExaminedNet:
    """Examines one net definition.

    Args:
        modules: the project's Python files by dotted name, for Python layers.
        dialect: see :class:`caffecompat.layers.BuildOptions`.
        max_bytes: the largest prototxt to read.
    """
    findings = Findings(str(file.path))
    read = _read(file.path, findings, max_bytes)
    if read is None:
        return ExaminedNet(file, FileReport(file.shown, file.kind, "", findings.all))
    definition, generation, upgraded = read
    classes = _classes(definition, dialect, findings)
    _check_fields(definition, classes, findings)
    _check_code(definition, classes, modules, findings)
    _note_missing_data(definition, file.path, findings)
    parameters: dict[str, list[Shape]] = {}
    if not findings.has_errors:
        parameters = _built(definition, dialect, findings)
    report = FileReport(
        file.shown,
        file.kind,
        "; ".join([generation, *_forks(classes)]),
        findings.all,
        _commands(file, definition, findings),
    )
    return ExaminedNet(file, report, definition, parameters, upgraded)


def _forks(classes: Sequence[type[Layer] | None]) -> list[str]:
    """The forks that define most of a net's types that BVLC Caffe lacks, as one text."""
    types = {kind for kind in classes if kind is not None and kind.fork}
    counts = Counter(fork for kind in types for fork in kind.fork.split(", "))
    most = max(counts.values(), default=0)
    best = sorted(fork for fork, count in counts.items() if count == most)
    return [", ".join(best)] if best else []


def _read(
    path: Path, findings: Findings, max_bytes: int | None
) -> tuple[Definition, str, bool] | None:
    """The definition, its generation, and whether an upgrade changes the file."""
    try:
        definition = read_definition(path, max_bytes=max_bytes)
        skipped = 0
    except TextError as error:
        lenient = _read_leniently(path, max_bytes)
        if lenient is None:
            for problem in error.problems:
                findings.error(*_split(problem))
            return None
        definition = lenient
        skipped = len(error.problems)
        for problem in error.problems:
            place, sentence = _split(problem)[::-1]
            findings.add(Severity.UPGRADE, f"{sentence} (--fix leaves it out)", place)
    except CaffeError as error:
        findings.error(str(error))
        return None
    # Fields of forks are held against the layer types later, skipped ones are findings already.
    of_forks = foreign_settings(definition.message)
    for note in dict.fromkeys(definition.notes):
        if note not in of_forks and not (skipped and _UNKNOWN_FIELD.search(note)):
            findings.note(*_split(note))
    generation = _generation(path, max_bytes)
    return definition, generation, bool(skipped) or generation != "today's form"


def _read_leniently(path: Path, max_bytes: int | None) -> Definition | None:
    try:
        return read_definition(path, True, max_bytes)
    except CaffeError:
        return None


def _split(sentence: str) -> tuple[str, str]:
    """A sentence without the place at its start, and the place."""
    found = re.match(r"([^\s:]+:\d+)(?::\d+)?: ", sentence)
    return (sentence[found.end() :], found[1]) if found else (sentence, "")


def _generation(path: Path, max_bytes: int | None) -> str:
    """Which of Caffe's forms a net has."""
    message, _ = files.read_text(path, "NetParameter", True, max_bytes)
    if any(layer.HasField("layer") for layer in message.layers):
        return "V0 (layers with a nested layer)"
    if message.layers:
        return "V1 (layers)"
    if message.input_dim or message.input_shape or message.input:
        return "V2 with input fields"
    return "today's form"


def _classes(definition: Definition, dialect: str, findings: Findings) -> list[type[Layer] | None]:
    """The class of each layer; None for those without one, which are reported."""
    classes: list[type[Layer] | None] = []
    for layer, place in _layers(definition):
        try:
            classes.append(catalogue.choose(layer, dialect))
        except UnknownName:
            origin = origin_of(layer.type, catalogue)
            findings.error(f"unknown layer type {layer.type!r}{origin}", place)
            classes.append(None)
        except LayerError as error:
            findings.error(str(error), place)
            classes.append(None)
    return classes


def _layers(definition: Definition) -> list[tuple[Message, str]]:
    """The layers with their places."""
    seen: dict[str, int] = {}
    found = []
    for layer in definition.message.layer:
        number = seen.get(layer.name, 0)
        seen[layer.name] = number + 1
        place = "" if definition.place is None else definition.place(layer.name, number)
        found.append((layer, place))
    return found


def _check_fields(
    definition: Definition, classes: Sequence[type[Layer] | None], findings: Findings
) -> None:
    """Reports fields of forks that change values, where the layer type does not support them."""
    for (layer, place), kind in zip(_layers(definition), classes, strict=True):
        if kind is None:
            continue
        known = {*kind.fork_fields, *kind.ignored_fork_fields}
        for one in effective_fields(layer):
            if one.path not in known:
                why = "" if one.meaning is None else f": {one.meaning.sentence}"
                findings.error(
                    f"layer {layer.name!r} ({layer.type}): {one.path} is not supported{why}", place
                )


def _check_code(
    definition: Definition,
    classes: Sequence[type[Layer] | None],
    modules: Mapping[str, Path],
    findings: Findings,
) -> None:
    """Reports the Python files that layers run, and those that are missing."""
    for (layer, place), kind in zip(_layers(definition), classes, strict=True):
        if kind is None or not kind.imports_code:
            continue
        name = layer.python_param.module
        code = modules.get(name)
        if code is None:
            findings.error(
                f"layer {layer.name!r} runs the class {layer.python_param.layer} of the Python "
                f"module {name!r}, which is not in this project; get its file, or write the layer",
                place,
            )
        else:
            findings.note(f"layer {layer.name!r} runs {code}; allow it with --allow-python", place)


def _note_missing_data(definition: Definition, path: Path, findings: Findings) -> None:
    """Names the data that the net reads and that are not there.

    Their paths hold from the current folder, the net's, or a folder above it as in Caffe's tree.
    """
    for layer, place in _layers(definition):
        source = source_class(layer)
        if source is None:
            continue
        try:
            missing = source.missing_files(layer, "", definition.message)
        except CaffeError as error:
            findings.note(first_line(error), place)
            continue
        for one in missing:
            if folder_with(one.path, path) is not None:
                continue
            findings.note(f"the {one.what} {one.path} is not there", place)


def _built(definition: Definition, dialect: str, findings: Findings) -> dict[str, list[Shape]]:
    """Builds the net without data in its phases; returns the shapes of its parameters."""
    parameters: dict[str, list[Shape]] = {}
    for phase in PHASES if _reads_data(definition) else ("TEST",):
        try:
            net = _in_some_state(definition, phase, dialect, findings)
        except _DataUnknown as unknown:
            findings.note(*_split(str(unknown)))
            continue
        except LayerError as error:
            # A Python layer's class runs only where the user allows it.
            if not _stops_at_code(definition, error):
                findings.error(*_split(str(error)))
            continue
        except CaffeError as error:
            if _has_layers(definition, phase):
                findings.error(*_split(str(error)))
            continue
        for name, blobs in net.params.items():
            parameters[name] = [tuple(blob.shape) for blob in blobs]
    return parameters


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


def _reads_data(definition: Definition) -> bool:
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


def _commands(file: ProjectFile, definition: Definition, findings: Findings) -> list[str]:
    if findings.has_errors:
        return []
    if _reads_data(definition):
        return []
    return [f"caffecompat summary {shlex.quote(str(file.path))}"]
