"""Processes of daemons and old locales: no standard output or error, a locale of ASCII."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import REPOSITORY

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
        inner_product_param { num_output: 5 } }"""


def run(folder: Path, words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a command of the shell, in which $RUN is the command line."""
    return subprocess.run(
        ["/bin/sh", "-c", words],
        cwd=folder,
        env={
            "PYTHONPATH": str(REPOSITORY),
            "PATH": os.defpath,
            "RUN": f"{sys.executable} -m caffecompat",
            **environment,
        },
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    done = run(tmp_path, f"$RUN summary net.prototxt {closed}")
    assert (done.returncode, done.stderr) == (0, b"")
    assert run(tmp_path, f"$RUN summary none.prototxt {closed}").returncode == 1
    written = run(tmp_path, f"$RUN draw net.prototxt net.dot {closed}")
    assert written.returncode == 0
    assert (tmp_path / "net.dot").read_text().startswith("digraph")


def test_a_name_that_the_locale_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    solver = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "ü"'
    (tmp_path / "solver.prototxt").write_text(solver, encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run(tmp_path, "$RUN train --cpu --solver solver.prototxt", **ascii_only)
    last = done.stderr.decode().splitlines()[-1]
    assert done.returncode == 1
    assert "has characters that ascii, the encoding of this locale, does not have" in last
    assert last.endswith("set the environment variable PYTHONUTF8=1")
    done = run(
        tmp_path, "$RUN train --cpu --solver solver.prototxt", **ascii_only | {"PYTHONUTF8": "1"}
    )
    assert b"does not have" not in done.stderr
