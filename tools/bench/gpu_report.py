#!/usr/bin/env python3
"""Writes the GPU part of docs/benchmarks.md from the result.json of tools/gpu_check.py.

The part lies between two markers, and is replaced as a whole. A result of the CPU is a trial:
its part says that nothing has been measured yet, and shows no figure.

Example:
    python tools/bench/gpu_report.py gpu_check/result.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN = "<!-- GPU: written by tools/bench/gpu_report.py -->"
END = "<!-- end of the GPU part -->"

Stage = dict[str, Any]


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path, help="result.json of tools/gpu_check.py")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/benchmarks.md")
    arguments = parser.parse_args(given)
    result = json.loads(arguments.result.read_text())
    before = arguments.page.read_text()
    start, end = before.find(BEGIN), before.find(END)
    if not 0 <= start < end:
        sys.exit(f"{arguments.page}: the lines {BEGIN!r} and {END!r} are missing")
    arguments.page.write_text(f"{before[:start]}{BEGIN}\n{part(result)}\n{before[end:]}")
    return 0


def part(result: dict[str, Any]) -> str:
    """The text between the markers."""
    stages: list[Stage] = result["stages"]
    ran = [stage for stage in stages if stage["status"] not in ("left out", "cut short")]
    lines = ["", _trial(stages) if result["device"] == "cpu" else _machine(stages), ""]
    counts = f"{sum(s['status'] == 'passed' for s in ran)} of {len(ran)} stages passed"
    lines += [f"{counts} on {result['started'][:10]}.", ""]
    lines += ["| stage | result |", "| --- | --- |", *map(_stage_line, stages), ""]
    if result["device"] != "cpu":
        for stage in stages:
            lines += _figures(stage)
    return "\n".join(lines)


def _value(stages: Sequence[Stage], what: str) -> str:
    rows = [row for stage in stages if stage["name"] == "machine" for row in stage["rows"]]
    return next((str(row["value"]) for row in rows if row["what"] == what), "unknown")


def _trial(stages: Sequence[Stage]) -> str:
    return (
        "**Not measured yet; tried on the CPU** (`tools/gpu_check.sh --device cpu --small`, "
        f"torch {_value(stages, 'torch')}), which shows that the stages run, and nothing about a "
        "GPU."
    )


def _machine(stages: Sequence[Stage]) -> str:
    return (
        f"Measured by `tools/gpu_check.sh` on {_value(stages, 'card')}, "
        f"{_value(stages, 'cores')} cores, torch {_value(stages, 'torch')}, CUDA and cuDNN "
        f"{_value(stages, 'CUDA, cuDNN')}, Python {_value(stages, 'Python')}."
    )


def _stage_line(stage: Stage) -> str:
    judged = [row for row in stage["rows"] if row["passed"] is not None]
    wrong = [row for row in judged if not row["passed"]]
    text = stage["status"]
    if judged:
        text += f"; {len(judged) - len(wrong)} of {len(judged)} checks passed"
    if wrong:
        text += ": " + "; ".join(f"{row['what']}: {row['value']}" for row in wrong[:5])
    return f"| `{stage['name']}` | {_cell(text)} |"


def _figures(stage: Stage) -> list[str]:
    rows = [row for row in stage["rows"] if row["figures"] and stage["name"] != "machine"]
    if not rows:
        return []
    lines = ["| measured | found |", "| --- | --- |"]
    lines += [f"| {_cell(row['what'])} | {_cell(row['value'])} |" for row in rows]
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
