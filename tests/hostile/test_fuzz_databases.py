"""Hundreds of damaged databases and images: only ever a sentence, no signal, no hang, no flood.

``CAFFECOMPAT_FUZZ`` in the environment is the number of inputs per kind (default 750), and
``CAFFECOMPAT_FUZZ_SEED`` the first seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.fuzz_databases import TRIALS
from tests.hostile.test_fuzz import ROOT, SEED

COUNT = int(os.environ.get("CAFFECOMPAT_FUZZ", "750"))
SECONDS = 60 + COUNT // 10


@pytest.mark.parametrize("kind", TRIALS)
def test_damaged_input_is_only_ever_refused(kind: str, tmp_path: Path) -> None:
    if kind == "leveldb-writer":
        pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    status = tmp_path / "seed"
    command = [sys.executable, "-m", "tests.hostile.fuzz_databases", kind]
    command += ["--seed", str(SEED), "--count", str(COUNT), "--status", str(status)]
    try:
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=2 * SECONDS
        )
        code, output = result.returncode, result.stdout + result.stderr
    except subprocess.TimeoutExpired as error:
        code, output = -1, f"not done after {error.timeout} seconds"
    if code:
        seed = status.read_text().strip() if status.exists() else "?"
        pytest.fail(
            f"exit status {code} (negative: killed by that signal) at seed {seed}\n{output}\n"
            f"again: {' '.join(command[:4])} --seed {seed} --count 1"
        )
    assert f"{COUNT} inputs of kind {kind}" in output
