"""What a report of doctor says."""

from __future__ import annotations

from caffecompat.doctor.findings import FileReport, Severity


def sentences(report: FileReport, severity: Severity) -> list[tuple[str, str]]:
    return [(f.place, f.sentence) for f in report.findings if f.severity is severity]
