"""Thousands of damaged files of every kind: only ever a sentence, no crash, no hang, no flood.

``CAFFECOMPAT_FUZZ`` in the environment is the number of files per kind (default 1500), and
``CAFFECOMPAT_FUZZ_SEED`` the first seed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.fuzz import READERS
from tests.hostile.mutations import damaged, valid_files

ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("CAFFECOMPAT_FUZZ", "1500"))
SEED = int(os.environ.get("CAFFECOMPAT_FUZZ_SEED", "0"))
SECONDS = 60 + COUNT // 10


@pytest.mark.parametrize("kind", READERS)
def test_damaged_files_are_only_ever_refused(kind: str, tmp_path: Path) -> None:
    status = tmp_path / "seed"
    command = [sys.executable, "-m", "tests.hostile.fuzz", kind]
    command += ["--seed", str(SEED), "--count", str(COUNT), "--status", str(status)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS
        )
        code, output = result.returncode, result.stdout + result.stderr
    except subprocess.TimeoutExpired as error:
        code, output = -1, f"not done after {error.timeout} seconds"
    if code:
        seed = status.read_text().strip() if status.exists() else "?"
        pytest.fail(
            f"exit status {code} (negative: killed by that signal) at seed {seed}\n{output}\n"
            f"again: {sys.executable} -m tests.hostile.fuzz {kind} --seed {seed} --count 1"
        )
    assert f"{COUNT} files of kind {kind}" in output


def test_the_harness_sees_what_it_looks_for(tmp_path: Path) -> None:
    """The same seed is the same file, seeds differ, and a share of the files still loads."""
    files = valid_files(tmp_path)
    assert set(files) == set(READERS)
    for kind in READERS:
        assert damaged(kind, files, 3) == damaged(kind, files, 3)
        assert len({damaged(kind, files, seed) for seed in range(20)}) > 15
    _, (read_all, *_) = READERS["caffemodel"]
    path = tmp_path / "plain.caffemodel"
    for data in files["caffemodel"]:
        path.write_bytes(data)
        read_all(path)
