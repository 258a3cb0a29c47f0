"""Examines weight files, solver states and mean files, and finds the net that weights belong to."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from math import prod

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
    net = best_net(weights, nets)
    quoted = shlex.quote(str(file.path))
    if net is None:
        findings.note(
            "no net of this project has these layers; give its prototxt with --model"
            if nets
            else "there is no net beside it; give its prototxt with --model"
        )
        commands = [f"caffecompat inspect {quoted}"]
    else:
        findings.note(f"its layers are those of {net.report.path}")
        model = shlex.quote(str(net.file.path))
        commands = [f"caffecompat convert {quoted} --to onnx --model {model}"]
    return FileReport(file.shown, file.kind, dialect, findings.all, commands)


def best_net(weights: Weights, nets: Sequence[ExaminedNet]) -> ExaminedNet | None:
    """The net of which most parameters are in the file, with equal numbers of values."""
    stored = {
        layer.name: [blob.size for blob in layer.blobs] for layer in weights.layers if layer.blobs
    }

    def agreeing(net: ExaminedNet) -> float:
        sizes = {name: list(map(prod, shapes)) for name, shapes in net.parameters.items()}
        equal = sum(stored.get(name) == blobs for name, blobs in sizes.items())
        return equal / len(sizes) if sizes else 0.0

    # Of equal ones a deploy net, which takes images.
    ranked = sorted(nets, key=lambda net: (-agreeing(net), not net.report.commands))
    return ranked[0] if ranked and agreeing(ranked[0]) > 1 / 2 else None
