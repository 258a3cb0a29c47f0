"""``caffecompat doctor``: which files of a legacy project run here, and what the others lack."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_dialect_argument, add_max_bytes_argument
from caffecompat.reporting.table import Column, print_table
from caffecompat.reporting.terminal import printable

if TYPE_CHECKING:
    from caffecompat.doctor.findings import FileReport, Finding, ProjectReport

HELP = "examine a project's nets, solvers, weights and scripts: what runs, what is missing"
EXAMPLE = """  caffecompat doctor old_project/
  caffecompat doctor old_project/ --fix      (writes NET.upgraded.prototxt beside old nets)
  caffecompat doctor train_val.prototxt --json"""

_MOST_LINES = 8
_COLUMNS = (
    Column("file", shortens=True, is_name=True),
    Column("kind", rank=2),
    Column("dialect", shortens=True, rank=1),
    Column("verdict"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="a file, or the folder of a project")
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write an upgraded copy beside each net of an old generation or with unknown fields",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_dialect_argument(parser)
    add_max_bytes_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.cli.jobs import logged_progress
    from caffecompat.doctor.examination import ExaminationOptions, examine

    options = ExaminationOptions(arguments.dialect, arguments.fix, arguments.max_bytes)
    with logged_progress("files") as progress:
        found = examine(Path(arguments.path), options, progress)
    if arguments.json:
        print(json.dumps(found.as_json(), indent=1))
    else:
        _print_report(found, arguments)
    return 0 if found.runs else 1


def _print_report(found: ProjectReport, arguments: argparse.Namespace) -> None:
    if not found.files:
        print(f"{arguments.path}: no net, solver, weight file or script that uses caffe")
        return
    rows = [(file.path, file.kind, file.dialect, file.verdict.value) for file in found.files]
    print_table(_COLUMNS, rows)
    for file in found.files:
        _print_findings(file)
    for path in found.written:
        print(f"wrote {printable(path)}")
    _print_next(found, arguments)


def _print_findings(file: FileReport) -> None:
    if not file.findings:
        return
    print(f"\n{printable(file.path)}: {file.verdict.value}")
    for places, finding in _grouped(file.findings):
        print(f"  {finding.severity.value:8}{printable(places)}: ", end="")
        first, *more = finding.sentence.splitlines() or [""]
        print(printable(first))
        for line in more:
            print(f"          {printable(line)}")


def _grouped(findings: Sequence[Finding]) -> Iterator[tuple[str, Finding]]:
    """Findings that say the same of several lines once, with their places: "a.py:3, 17, 20"."""
    alike: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        name = re.sub(r":\d+$", "", finding.place)
        alike.setdefault((finding.severity, finding.sentence, name), []).append(finding)
    for first, *others in alike.values():
        lines = [other.place.rpartition(":")[2] for other in others]
        shown = ", ".join([first.place, *lines[:_MOST_LINES]])
        left = len(lines) - _MOST_LINES
        yield f"{shown} and {left} more" if left > 0 else shown, first


def _print_next(found: ProjectReport, arguments: argparse.Namespace) -> None:
    """The commands to run next."""
    commands = [command for file in found.files for command in file.commands]
    fixable = any(f.severity.value == "upgrade" for file in found.files for f in file.findings)
    if fixable and not arguments.fix:
        commands.insert(0, f"caffecompat doctor {shlex.quote(arguments.path)} --fix")
    if commands:
        print("\nnext:")
        for command in commands:
            print(f"  {printable(command)}")
    sys.stdout.flush()
