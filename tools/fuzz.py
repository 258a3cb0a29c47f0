#!/usr/bin/env python3
"""Damaged files for every reader, a million of them by default: which crash, hang or end bare?

Each input is made from a small valid file by a few changes that its number decides. It is read in a
child process. What counts as a finding: an exception that is no CaffeError, a death by a signal,
more than 10 seconds of the processor (or 30 of waiting for something else), more than 1 GB of
memory. The figures are in docs/reliability.md.

Examples:
    python tools/fuzz.py --jobs 2 --json fuzz.json
    python tools/fuzz.py --reader lmdb --inputs 20000 --first 5000
    python tools/fuzz.py --reader lmdb --seed 12345 --one --keep found/

The exit code is 1 if there are findings. Linux only, as it looks into /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.hostile.fuzzing import fuzz, fuzz_worker
from tests.hostile.fuzzing.readers import READERS


def main() -> int:
    arguments = _arguments()
    names = arguments.reader or list(READERS)
    if arguments.one:
        return _one(names[0], arguments.seed, arguments.keep)
    total = sum(READERS[name].share for name in names)
    counts = {name: arguments.inputs * READERS[name].share // total for name in names}
    tasks = list(fuzz.tasks_of(counts, arguments.seed))
    begun = time.monotonic()
    show = _Progress(sum(counts.values()), arguments.seed)
    report = fuzz.run(tasks, arguments.jobs, show, arguments.keep)
    seconds = time.monotonic() - begun
    show.end()
    _print(report, seconds)
    if arguments.json:
        arguments.json.write_text(json.dumps(_as_json(report, seconds, arguments), indent=1))
    return 1 if report.findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many (default: 10^6)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--reader", nargs="+", choices=READERS, help="only these (default: all)")
    parser.add_argument(
        *("--seed", "--first"), type=int, default=0, help="number of the first input (default: 0)"
    )
    parser.add_argument("--one", action="store_true", help="only that input, with its traceback")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


class _Progress:
    """One line on standard error, written anew each second; on a file a line per minute."""

    def __init__(self, total: int, first: int) -> None:
        self._total = total
        self._begun = time.monotonic()
        self._next = 0.0
        self._live = sys.stderr.isatty()
        self._told: set[tuple[str, str, str]] = set()

    def __call__(self, done: int, report: fuzz.Report) -> None:
        for finding in report.findings:
            if finding.fault not in self._told:
                self._told.add(finding.fault)
                self._line(_sentence(finding) + "\n")
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (1 if self._live else 60)
        rate = done / max(now - self._begun, 1e-9)
        left = (self._total - done) / rate if rate else 0
        text = f"{done:,} of {self._total:,} inputs, {rate:,.0f} per second, "
        text += f"{left / 60:.0f} min left, {len(report.findings)} findings"
        self._line(text + ("" if self._live else "\n"))

    def _line(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}" if self._live else text)
        sys.stderr.flush()

    def end(self) -> None:
        if self._live:
            self._line("")


def _sentence(finding: fuzz_worker.Finding) -> str:
    detail = " ".join(finding.detail.split())[:150]
    again = f"--reader {finding.reader} --seed {finding.number} --one"
    return f"{finding.reader}: {finding.kind}: {finding.where}: {detail}   ({again})"


def _print(report: fuzz.Report, seconds: float) -> None:
    columns = ("inputs", "accepted", "refused", "exceptions", "crashes", "hangs", "> 1 GB", "per s")
    print(f"{'reader':<17}" + "".join(f"{name:>11}" for name in columns))
    sums = [0] * 7
    for name, tally in report.tallies.items():
        row = [tally.inputs, tally.accepted, tally.refused]
        row += [report.count(name, kind) for kind in fuzz_worker.KINDS]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        rate = tally.inputs / max(tally.seconds, 1e-9)
        print(f"{name:<17}" + "".join(f"{n:>11,}" for n in row) + f"{rate:>11,.0f}")
    rate = sums[0] / max(seconds, 1e-9)
    print(f"{'all':<17}" + "".join(f"{n:>11,}" for n in sums) + f"{rate:>11,.0f}")
    print(f"{seconds / 60:.1f} minutes")
    faults = defaultdict(list)
    for finding in report.findings:
        faults[finding.fault].append(finding)
    for found in sorted(faults.values(), key=len, reverse=True):
        print(f"{len(found):>6} x {_sentence(found[0])}")


def _as_json(
    report: fuzz.Report, seconds: float, arguments: argparse.Namespace
) -> dict[str, object]:
    return {
        "first": arguments.seed,
        "jobs": arguments.jobs,
        "seconds": round(seconds, 1),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "readers": {
            name: vars(tally) | {kind: report.count(name, kind) for kind in fuzz_worker.KINDS}
            for name, tally in report.tallies.items()
        },
        "findings": [vars(finding) for finding in report.findings],
    }


def _one(name: str, number: int, keep: Path | None) -> int:
    """One input in a child process, then, unless that one died, with its traceback."""
    report = fuzz.run([fuzz_worker.Task(name, number, number + 1)], keep=keep)
    for finding in report.findings:
        print(_sentence(finding))
    if report.findings and all(f.kind == fuzz_worker.EXCEPTION for f in report.findings):
        _trace(name, number)
    if not report.findings:
        tally = report.tallies[name]
        print("accepted" if tally.accepted else "refused")
    return 1 if report.findings else 0


def _trace(name: str, number: int) -> None:
    import tempfile

    from tests.hostile.fuzzing.readers import asks_for, first_path, make_input
    from tests.hostile.fuzzing.seeds import make_seeds

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seeds").mkdir()
        files = make_input(name, make_seeds(Path(folder) / "seeds"), number)
        (Path(folder) / "work").mkdir()
        os.chdir(Path(folder) / "work")
        fuzz_worker.write_files(files, Path())
        for ask in asks_for(READERS[name], number):
            try:
                ask(first_path(files))
            except Exception:
                traceback.print_exc()


if __name__ == "__main__":
    sys.exit(main())
