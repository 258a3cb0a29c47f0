"""Examines weight files, solver states and mean files, and finds the net that weights belong to."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from math import prod
from pathlib import Path

from caffecompat.doctor.findings import FileReport, Findings
from caffecompat.doctor.nets import ExaminedNet
from caffecompat.doctor.project import ProjectFile
from caffecompat.errors import CaffeError
from caffecompat.weights import Weights, load_weights
from caffecompat.weights.description import WEIGHTS, describe_file, file_kind


def examine_model_file(
    file: ProjectFile, nets: Sequence[ExaminedNet], max_bytes: int | None = None
) -> FileReport:
    """Examines one file of weights, a solver state or a mean."""
    findings = Findings(str(file.path))
    try:
        kind = file_kind(file.path)
        if kind != WEIGHTS:
            description = describe_file(file.path, max_bytes=max_bytes)
            return FileReport(file.shown, description.title, "", findings.all)
        weights = load_weights(file.path, max_bytes=max_bytes)
    except CaffeError as error:
        findings.error(str(error))
        return FileReport(file.shown, file.kind, "", findings.all)
    dialect = weights.dialect or weights.generation
    net = best_net(weights, nets, file.path)
    quoted = shlex.quote(str(file.path))
    commands = [f"caffecompat inspect {quoted}"]
    if net is not None:
        findings.note(f"its layers are those of {net.report.path}")
        model = shlex.quote(str(net.file.path))
        commands = [f"caffecompat convert {quoted} --to onnx --model {model}"]
    elif (named := net_of_these_names(weights, nets, file.path)) is not None:
        findings.note(
            f"its layers have the names of those of {named.report.path}, whose shapes are not known"
        )
    else:
        findings.note(
            "no net of this project has these layers; give its prototxt with --model"
            if nets
            else "there is no net beside it; give its prototxt with --model"
        )
    return FileReport(file.shown, file.kind, dialect, findings.all, commands)


def best_net(
    weights: Weights, nets: Sequence[ExaminedNet], path: Path | None = None
) -> ExaminedNet | None:
    """The net of which most parameters are in the file, with equal numbers of values.

    Args:
        path: the weights' file; of equal nets the nearest one counts.
    """
    stored = {
        layer.name: [blob.size for blob in layer.blobs] for layer in weights.layers if layer.blobs
    }

    def equal(net: ExaminedNet) -> int:
        sizes = {name: list(map(prod, shapes)) for name, shapes in net.parameters.items()}
        return sum(stored.get(name) == blobs for name, blobs in sizes.items())

    def share(net: ExaminedNet) -> float:
        return equal(net) / len(net.parameters) if net.parameters else 0.0

    def rank(net: ExaminedNet) -> tuple[float, int, bool, int]:
        # Of equal ones that which uses most of the file, then a deploy net, which takes images.
        distance = 0 if path is None else _steps(path, net.file.path)
        return -share(net), -equal(net), not net.report.commands, distance

    best = min(nets, key=rank, default=None)
    return best if best is not None and share(best) > 1 / 2 else None


def net_of_these_names(
    weights: Weights, nets: Sequence[ExaminedNet], path: Path
) -> ExaminedNet | None:
    """The nearest net of unknown shapes that has layers of all names in the file.

    The code of a Python layer, or data that is not there, decides the shapes of such a net.
    """
    stored = {layer.name for layer in weights.layers if layer.blobs}

    def has_all(net: ExaminedNet) -> bool:
        if net.parameters or net.definition is None:
            return False
        return stored <= {layer.name for layer in net.definition.message.layer}

    return min(filter(has_all, nets), key=lambda net: _steps(path, net.file.path), default=None)


def _steps(one: Path, other: Path) -> int:
    """How many folders lie between two files."""
    here, there = one.resolve().parent, other.resolve().parent
    shared = len(Path(os.path.commonpath((here, there))).parts)
    return len(here.parts) + len(there.parts) - 2 * shared
