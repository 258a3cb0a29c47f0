"""Hundreds of damaged databases and images: only ever a sentence, no signal, no hang, no flood.

``CAFFECOMPAT_FUZZ`` in the environment is the number of inputs per kind (default 250), and
``CAFFECOMPAT_FUZZ_SEED`` the first seed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hostile.fuzzing.fuzz_databases import TRIALS
from tests.hostile.fuzzing.mutations import SEED
from tests.programs import run_program

COUNT = int(os.environ.get("CAFFECOMPAT_FUZZ", "250"))
SECONDS = 60 + COUNT // 10


@pytest.mark.parametrize("kind", TRIALS)
def test_damaged_input_is_only_ever_refused(kind: str, tmp_path: Path) -> None:
    if kind == "leveldb-writer":
        pytest.importorskip("plyvel", reason="plyvel (extra leveldb) is not installed")
    status = tmp_path / "seed"
    command = ["-m", "tests.hostile.fuzzing.fuzz_databases", kind]
    words = ["--seed", str(SEED), "--count", str(COUNT), "--status", str(status)]
    result = run_program([*command, *words], timeout=2 * SECONDS)
    code, output = result.returncode, result.stdout + result.stderr
    if code:
        seed = status.read_text().strip() if status.exists() else "?"
        pytest.fail(
            f"exit status {code} (negative: killed by that signal, 9 after {2 * SECONDS} seconds) "
            f"at seed {seed}\n{output}\n"
            f"again: python {' '.join(command)} --seed {seed} --count 1"
        )
    assert f"{COUNT} inputs of kind {kind}" in output
