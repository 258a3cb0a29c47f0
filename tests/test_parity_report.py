"""The table at the end of ``pytest -m parity`` shows what was compared, and what differs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.parity_report import OUTPUTS, PROPERTY, WEIGHTS, note, table
from tests.programs import run_program


def told(*arguments: object) -> list[tuple[str, object]]:
    """What a test tells with :func:`note`, as it comes from another process."""
    found: list[tuple[str, object]] = []
    note(lambda name, value: found.append((name, value)), *arguments)  # type: ignore[arg-type]
    return [(name, json.loads(json.dumps(value))) for name, value in found]


def arrays(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_line_for_each_net_with_its_largest_differences() -> None:
    same = arrays(1, np.nan, -0.0)
    properties = [
        ("other", 3),
        *told("zeta", WEIGHTS, 4, [(same, same.copy()), (same.reshape(1, 3), same)]),
        *told("alpha", WEIGHTS, 7, [(same, same.copy()), (arrays(1, 2), arrays(1, 2.5))]),
        *told("alpha", WEIGHTS, 7, [(arrays(3, 4), arrays(3.25, 4))]),
        *told("alpha", OUTPUTS, 7, [(arrays(3, 4), arrays(3, 4))]),
        *told("shape", WEIGHTS, 2, [(arrays(3, 4), arrays(3)), (arrays(3), arrays(5))]),
        *told("zero", WEIGHTS, 1, [(arrays(0), arrays(-0.0))]),
        *told("nan", WEIGHTS, 1, [(arrays(0, 1), arrays(np.nan, 1))]),
    ]
    lines = [line.split("  ") for line in table(properties)]
    rows = {line[0].strip(): [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert rows == {
        "net": ["layers with weights", "conversions", "weights differ by", "outputs differ by"],
        "alpha": ["7", "2", "0.5", "0 (bits equal)"],
        "nan": ["1", "1", "nan"],
        "shape": ["2", "1", "nan"],
        "zero": ["1", "1", "0"],
        "zeta": ["4", "1", "0 (bits equal)"],
    }
    assert table([("other", 3)]) == []
    assert properties[1][0] == PROPERTY


@pytest.mark.parametrize("expression", ["parity", "not slow"])
def test_the_command_prints_it(expression: str) -> None:
    file = "tests/weights/test_parity.py"
    words = [
        file,
        "-k",
        "narrowed and quickstart",
        "-m",
        expression,
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    found = run_program(["-m", "pytest", *words])
    assert "1 passed" in found.stdout, found.stdout + found.stderr
    lines = [line.split() for line in found.stdout.splitlines() if "quickstart" in line]
    row = ["quickstart", "8", "1", "0", "(bits", "equal)", "0", "(bits", "equal)"]
    assert lines == ([row] if expression == "parity" else [])
