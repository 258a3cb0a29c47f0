"""The tests of one file that are marked ``gpu``, by pytest."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from tools.gpu.one_stage import Row, Work, run_stage

ROOT = Path(__file__).resolve().parents[2]
# The stage "layers" runs these cases, with a row for each type.
RECORDED = "tests/net/execution/test_device.py::test_recorded_cases"
# pytest's exit code where the marker leaves no test.
_NO_TESTS = 5
_MOST_WARNINGS = 5


def marked(work: Work) -> Iterator[Row]:
    """``work.argument`` is the file, from the root of the checkout."""
    report = work.json.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    # A warning that only a GPU's torch gives would fail every test; it is a row instead.
    command += ["-W", "default", f"--junitxml={report}", work.argument, "--deselect", RECORDED]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    sys.stdout.write(ended.stdout)
    code = ended.returncode
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    skipped = [case for case in cases if case.find("skipped") is not None]
    for case in cases:
        problem = case.find("failure")
        problem = case.find("error") if problem is None else problem
        if problem is not None:
            first = (problem.get("message") or "").strip().splitlines()[:1]
            yield Row(str(case.get("name")), "".join(first), False)
    yield from _warnings(ended.stdout)
    text = f"{len(cases) - len(skipped)} tests, {len(skipped)} skipped"
    yield Row(Path(work.argument).name, text, code in (0, _NO_TESTS))


def _warnings(output: str) -> Iterator[Row]:
    """The kinds of warnings in pytest's summary, each with its first line."""
    found = re.findall(r"^ .*?(\w*Warning: .*)$", output, re.MULTILINE)
    for text in sorted(set(found))[:_MOST_WARNINGS]:
        yield Row("warning", text[:200])


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, {"marked": marked}))
