"""Examines a file or a whole project."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffecompat.doctor.findings import FileReport, ProjectReport
from caffecompat.doctor.model_files import examine_model_file
from caffecompat.doctor.nets import ExaminedNet, examine_net
from caffecompat.doctor.project import (
    NET,
    SOLVER,
    WEIGHTS,
    ProjectFile,
    project_files,
    python_modules,
)
from caffecompat.doctor.scripts import examine_script
from caffecompat.doctor.solvers import examine_solver
from caffecompat.layers import catalogue
from caffecompat.proto.files import write_text
from caffecompat.reporting.progress import Progress

# Nets first: solvers and weights are compared with them.
_ORDER = (NET, SOLVER, WEIGHTS)


@dataclass(frozen=True)
class ExaminationOptions:
    """How a project is examined.

    Attributes:
        dialect: see :class:`caffecompat.layers.BuildOptions`.
        fix: write an upgraded copy beside each net that runs only with it, or is of an old
            generation: ``net.upgraded.prototxt``.
        max_bytes: the largest file to read, and the most that it may claim to hold; None for the
            limit of each kind of file.
    """

    dialect: str = ""
    fix: bool = False
    max_bytes: int | None = None


def examine(
    root: Path, options: ExaminationOptions | None = None, progress: Progress | None = None
) -> ProjectReport:
    """Examines a file, or every file of a folder that has to do with Caffe.

    No code of the project is run.

    Args:
        root: a file or a folder.
        options: see :class:`ExaminationOptions`.
        progress: called with the numbers of examined and of all files.

    Raises:
        FileProblem: there is no such file or folder, or a copy cannot be written.
        UnknownName: the dialect is no fork's.
    """
    options = options or ExaminationOptions()
    catalogue.check_dialect(options.dialect)
    files = project_files(root, options.max_bytes)
    modules = python_modules(root)
    nets: list[ExaminedNet] = []
    reports: dict[str, FileReport] = {}
    ordered = sorted(files, key=lambda file: _rank(file.kind))
    for number, file in enumerate(ordered, 1):
        if file.kind == NET:
            net = examine_net(file, modules, options.dialect, options.max_bytes)
            nets.append(net)
            reports[file.shown] = net.report
        else:
            reports[file.shown] = _examine(file, nets, options.max_bytes)
        if progress is not None:
            progress(number, len(files))
    written = write_upgraded(nets) if options.fix else []
    return ProjectReport([reports[file.shown] for file in files], written)


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _examine(file: ProjectFile, nets: Sequence[ExaminedNet], max_bytes: int | None) -> FileReport:
    if file.kind == SOLVER:
        return examine_solver(file, nets, max_bytes)
    if file.kind == WEIGHTS:
        return examine_model_file(file, nets, max_bytes)
    return examine_script(file, max_bytes)


def upgraded_path(path: Path) -> Path:
    """Where the upgraded copy of a net is written."""
    return path.with_name(f"{path.name.removesuffix('.prototxt')}.upgraded.prototxt")


def write_upgraded(nets: Sequence[ExaminedNet]) -> list[str]:
    """Writes the nets that an upgrade changes, each beside its file; returns what was written.

    Raises:
        FileProblem: a copy cannot be written.
    """
    written = []
    for net in nets:
        target = upgraded_path(net.file.path)
        # Files that were there before are left alone.
        if net.definition is None or not net.upgraded or os.path.lexists(target):
            continue
        write_text(net.definition.message, target)
        written.append(str(target))
    return written
