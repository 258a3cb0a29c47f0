"""Examines net definitions: dialect, layer types, fields, Python layers, shapes."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffecompat.doctor.findings import FileReport, Findings, Severity
from caffecompat.doctor.net_building import Built, build_without_data, reads_data
from caffecompat.doctor.project import ProjectFile
from caffecompat.errors import CaffeError, LayerError, TextError, UnknownName, first_line
from caffecompat.input_files import counterpart, folder_with
from caffecompat.layers import Layer, Shape, catalogue, source_class
from caffecompat.layers.forks._known_types import origin_of
from caffecompat.net.definition import Definition, fork_notes, read_definition
from caffecompat.proto import files
from caffecompat.proto.fork_fields import effective_fields
from caffecompat.proto.schema import Message


@dataclass
class ExaminedNet:
    """A net definition and what was found in it.

    Attributes:
        definition: None if it cannot be read.
        parameters: the shapes of the parameters by layer, as far as the net can be built.
        upgraded: whether reading changed it, so that an upgraded copy differs.
        missing_phases: those that it cannot be built in, though it can in the other one.
    """

    file: ProjectFile
    report: FileReport
    definition: Definition | None = None
    parameters: dict[str, list[Shape]] = field(default_factory=dict)
    upgraded: bool = False
    missing_phases: Sequence[str] = ()


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
    dialect = dialect or definition.dialect
    classes = _classes(definition, dialect, findings)
    _check_fields(definition, classes, findings)
    _check_code(definition, classes, modules, file.path.parent, findings)
    _note_missing_data(definition, file.path, findings)
    built = Built()
    if not findings.has_errors:
        built = build_without_data(definition, dialect, findings)
    report = FileReport(
        file.shown,
        file.kind,
        "; ".join([generation, *_forks(classes)]),
        findings.all,
        _commands(file, definition, findings),
    )
    return ExaminedNet(file, report, definition, built.parameters, upgraded, sorted(built.missing))


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
                findings.error(problem)
            return None
        definition = lenient
        skipped = len(error.problems)
        for problem in error.problems:
            findings.add(Severity.UPGRADE, f"{problem} (--fix leaves it out)")
    except CaffeError as error:
        findings.error(str(error))
        return None
    # Fields of forks are held against the layer types later, skipped ones are findings already.
    of_forks = fork_notes(definition.message)
    for note in dict.fromkeys(definition.notes):
        if note not in of_forks and note not in definition.skipped:
            findings.note(note)
    generation = _generation(path, max_bytes)
    return definition, generation, bool(skipped) or generation != "today's form"


def _read_leniently(path: Path, max_bytes: int | None) -> Definition | None:
    try:
        return read_definition(path, True, max_bytes)
    except CaffeError:
        return None


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
    folder: Path,
    findings: Findings,
) -> None:
    """Reports the Python files that layers run, and those that are missing.

    A project may have several of one name; the one in the net's own folder is meant.
    """
    for (layer, place), kind in zip(_layers(definition), classes, strict=True):
        if kind is None or not kind.imports_code:
            continue
        name = layer.python_param.module
        beside = folder.joinpath(*name.split(".")).with_suffix(".py") if name else folder
        code = beside if beside.is_file() else modules.get(name)
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
            here = counterpart(one.path, path)
            remedy = "" if here is None else f"; here it may be {here}: write that in its place"
            findings.note(f"the {one.what} {one.path} is not there{remedy}", place)


def _commands(file: ProjectFile, definition: Definition, findings: Findings) -> list[str]:
    if findings.has_errors:
        return []
    if reads_data(definition):
        return []
    return [f"caffecompat summary {shlex.quote(str(file.path))}"]
