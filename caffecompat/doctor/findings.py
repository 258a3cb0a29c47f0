"""What an examination finds: sentences about files, and whether the files run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Severity(Enum):
    """How much a finding matters."""

    ERROR = "error"  # the file cannot run
    UPGRADE = "upgrade"  # it runs after a change that --fix makes
    NOTE = "note"


class Verdict(Enum):
    """Whether a file runs."""

    RUNS = "runs"
    RUNS_AFTER_FIX = "runs after --fix"
    CANNOT_RUN = "cannot run"


@dataclass(frozen=True)
class Finding:
    """One sentence about a file.

    Attributes:
        place: ``"net.prototxt:41"``, or the file alone.
        sentence: what was found, and what to do.
    """

    place: str
    severity: Severity
    sentence: str

    def as_json(self) -> dict[str, str]:
        return {"place": self.place, "severity": self.severity.value, "sentence": self.sentence}


@dataclass(frozen=True)
class FileReport:
    """What was found in one file.

    Attributes:
        path: the file, as it was found below the folder that the user named.
        kind: ``"net"``, ``"solver"``, ``"weights"``, ``"script"`` ...
        dialect: the generation and the forks of Caffe that it belongs to; empty where that has no
            meaning.
        commands: what to run next.
    """

    path: str
    kind: str
    dialect: str = ""
    findings: Sequence[Finding] = ()
    commands: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        found = {finding.severity for finding in self.findings}
        if Severity.ERROR in found:
            return Verdict.CANNOT_RUN
        return Verdict.RUNS_AFTER_FIX if Severity.UPGRADE in found else Verdict.RUNS

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.path,
            "kind": self.kind,
            "dialect": self.dialect,
            "verdict": self.verdict.value,
            "findings": [finding.as_json() for finding in self.findings],
            "commands": list(self.commands),
        }


@dataclass(frozen=True)
class ProjectReport:
    """What was found in a project, file by file.

    Attributes:
        written: the files that --fix wrote.
    """

    files: Sequence[FileReport]
    written: Sequence[str] = field(default_factory=tuple)

    @property
    def runs(self) -> bool:
        """Whether nothing was found that cannot run."""
        return all(file.verdict is not Verdict.CANNOT_RUN for file in self.files)

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "files": [file.as_json() for file in self.files],
            "written": list(self.written),
        }


class Findings:
    """Collects the findings of one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.all: list[Finding] = []
        self._found: set[Finding] = set()

    def add(self, severity: Severity, sentence: str, place: str = "") -> None:
        """Adds a sentence once.

        Args:
            place: where it belongs; by default the line or the file that the sentence begins with.
        """
        if not place:
            place, sentence = self.split(sentence)
        elif sentence.startswith(f"{place}: "):
            sentence = sentence[len(place) + 2 :]
        finding = Finding(place, severity, sentence)
        if finding not in self._found:
            self._found.add(finding)
            self.all.append(finding)

    def error(self, sentence: str, place: str = "") -> None:
        self.add(Severity.ERROR, sentence, place)

    def note(self, sentence: str, place: str = "") -> None:
        self.add(Severity.NOTE, sentence, place)

    @property
    def has_errors(self) -> bool:
        return any(finding.severity is Severity.ERROR for finding in self.all)

    def split(self, sentence: str) -> tuple[str, str]:
        """The file or its line at the start of a sentence, else the file, and what follows."""
        found = re.match(rf"({re.escape(self.path)}(?::\d+)?)(?::\d+)?: ", sentence)
        return (found[1], sentence[found.end() :]) if found else (self.path, sentence)
