"""The benchmark of weight files still runs; its numbers are not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_small_run() -> None:
    command = [sys.executable, "tools/bench/weights.py", "--divisor", "32", "--repeat", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode in (0, 1), result.stderr
    for line in (
        "generic protobuf",
        "caffecompat inspect",
        "save_weights",
        "writing / plain write",
    ):
        assert line in result.stdout
