"""What one stage of tools/gpu_check.py hands back: rows of a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line of a stage.

    Attributes:
        what: the check or the measurement.
        value: what was found, as a person reads it.
        passed: None where nothing can fail, as in a measurement without a target.
        figures: measured numbers, for tools/bench/gpu_report.py.
    """

    what: str
    value: str
    passed: bool | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """The arguments of a stage.

    Attributes:
        device: "cuda" or, for a trial, "cpu".
        small: sizes of a trial on the CPU.
        json: the file for the rows.
        argument: what the runner adds for a stage.
    """

    device: str
    small: bool
    json: Path
    argument: str = ""

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"


Check = Callable[[Work], Iterable[Row]]


def run_stage(description: str | None, checks: Mapping[str, Check]) -> int:
    """The main function of a stage's module: runs its checks and writes their rows.

    A check that raises gives a row that failed, and the next one goes on. Rows are written after
    each one, so that a stage that is stopped leaves those that it has.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="sizes of a trial on the CPU")
    parser.add_argument("--json", type=Path, required=True, help="file for the rows")
    parser.add_argument("--only", choices=checks, help="one check")
    parser.add_argument("--argument", default="", help="for the check")
    given = parser.parse_args()
    work = Work(given.device, given.small, given.json, given.argument)
    rows: list[Row] = []
    for name, check in checks.items():
        if given.only in (None, name):
            for row in _rows(name, check, work):
                rows.append(row)
                print(f"  {row.what}: {row.value}", flush=True)
                draft = work.json.with_suffix(".tmp")
                draft.write_text(json.dumps([asdict(one) for one in rows], indent=1))
                draft.replace(work.json)
    return 1 if any(row.passed is False for row in rows) else 0


def _rows(name: str, check: Check, work: Work) -> Iterator[Row]:
    try:
        yield from check(work)
    except Exception as error:  # one broken check must not cost the others
        first = str(error).strip().splitlines()[:1] or [""]
        yield Row(name, f"{type(error).__name__}: {first[0]}", False)
