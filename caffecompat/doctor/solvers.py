"""Examines solvers: settings, and the nets that they name."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffecompat.doctor.findings import FileReport, Findings, Verdict
from caffecompat.doctor.nets import ExaminedNet
from caffecompat.doctor.project import ProjectFile
from caffecompat.errors import CaffeError, TextError
from caffecompat.input_files import counterpart, folder_with
from caffecompat.proto.schema import Message
from caffecompat.solver.setup.settings import read_settings


@dataclass(frozen=True)
class NamedNet:
    """A net that a solver names.

    Attributes:
        path: as written in the solver.
        found: the file, or None.
        phases: what it is built for.
    """

    path: str
    found: Path | None
    phases: Sequence[str]


def examine_solver(
    file: ProjectFile, nets: Sequence[ExaminedNet], max_bytes: int | None = None
) -> FileReport:
    """Examines one solver, after the project's nets."""
    findings = Findings(str(file.path))
    try:
        settings = read_settings(file.path, max_bytes=max_bytes)
    except TextError as error:
        for problem in error.problems:
            findings.error(problem)
        return FileReport(file.shown, file.kind, "", findings.all)
    except CaffeError as error:
        findings.error(str(error))
        return FileReport(file.shown, file.kind, "", findings.all)
    for note in settings.notes:
        findings.note(note)
    examined = {net.file.path.resolve(): net for net in nets}
    folder = None
    for named in _named_nets(settings.message, file.path):
        if named.found is None:
            here = counterpart(named.path, file.path)
            remedy = "" if here is None else f"; here it may be {here}: write that in its place"
            findings.error(f"the net {named.path} is not there{remedy}")
            continue
        folder = _folder_of(named)
        net = examined.get(named.found.resolve())
        if net is not None and net.report.verdict is Verdict.CANNOT_RUN:
            findings.error(f"its net {net.report.path} cannot run")
        elif net is not None:
            for phase in sorted({*named.phases} & {*net.missing_phases}):
                does = {"TRAIN": "trains", "TEST": "tests with"}[phase]
                shown = net.report.path
                findings.error(f"it {does} the net {shown}, which cannot be built in phase {phase}")
    folder = folder or _folder_of_snapshots(settings.message, file.path)
    command = [] if findings.has_errors else [_command(file.path, folder)]
    return FileReport(file.shown, file.kind, "", findings.all, command)


def _named_nets(message: Message, path: Path) -> list[NamedNet]:
    # As many tests as there are test_iter, with the net after those of the nets for tests alone.
    tests = len(message.test_iter) > len(message.test_net) + len(message.test_net_param)
    roles = [
        (message.net, ("TRAIN", "TEST") if tests else ("TRAIN",)),
        (message.train_net, ("TRAIN",)),
        *((name, ("TEST",)) for name in message.test_net),
    ]
    return [NamedNet(name, _found(name, path), phases) for name, phases in roles if name]


def _found(name: str, solver: Path) -> Path | None:
    """The net, from the current folder, the solver's, or a folder above it as in Caffe's tree."""
    folder = Path() if os.path.isfile(name) else folder_with(name, solver)
    return None if folder is None else folder / name


def _folder_of(named: NamedNet) -> Path | None:
    """Where training must be started, so that the names in the solver hold."""
    assert named.found is not None
    if Path(named.path).is_absolute() or Path(named.path).is_file():
        return None
    parts = len(Path(named.path).parts)
    if ".." in Path(named.path).parts:
        return Path(os.path.abspath(str(named.found).removesuffix(named.path)))
    return named.found.resolve().parents[parts - 1]


def _folder_of_snapshots(message: Message, solver: Path) -> Path | None:
    """Where the folder of the snapshots is found, if it is not here."""
    folder = os.path.dirname(message.snapshot_prefix)
    return None if os.path.isdir(folder) else folder_with(folder, solver)


def _command(path: Path, folder: Path | None) -> str:
    if folder is None:
        return f"caffecompat train --solver {shlex.quote(str(path))}"
    inside = path.resolve()
    shown = inside.relative_to(folder) if inside.is_relative_to(folder) else inside
    return f"cd {shlex.quote(str(folder))} && caffecompat train --solver {shlex.quote(str(shown))}"
