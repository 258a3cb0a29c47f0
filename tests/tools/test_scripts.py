"""The scripts of tools/: they are never silent for long, and they fail where a step fails."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PYTHON = """#!/bin/sh
case "$*" in
    "-m pip --version") echo pip 99 ;;
    *" install "*)
        echo "Obtaining file:///x"
        echo "Collecting numpy<3 (from caffecompat)"
        sleep 0.5
        echo "  Downloading torch-2.13.0.whl (900 MB)"
        echo "Installing collected packages: numpy, torch"
        exit ${FAILS:-0} ;;
    *" show "*) exit 1 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script in a folder of its own, and an environment whose Python only talks."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "install.sh", tmp_path / "tools")
    for name in ("setup.py", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def install(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "CAFFECOMPAT_VENV"}
    return subprocess.run(
        [str(checkout / "tools" / "install.sh"), "all"],
        env={**inherited, "CAFFECOMPAT_HEARTBEAT": "0.1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_installing_says_what_it_does(checkout: Path) -> None:
    result = install(checkout)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for words in ("  Collecting numpy", "  Downloading torch-2.13.0", "  Installing collected"):
        assert any(line.startswith(words) for line in lines)
    assert any(line.startswith("  ... ") for line in lines)
    assert not any("Obtaining" in line for line in lines)
    assert (checkout / ".venv" / "caffecompat-all.stamp").exists()
    assert install(checkout).stdout == ""


def test_an_installation_that_fails(checkout: Path) -> None:
    result = install(checkout, FAILS="3")
    assert result.returncode == 3
    assert not (checkout / ".venv" / "caffecompat-all.stamp").exists()


def test_the_test_command_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "test.sh", tmp_path / "tools")
    (tmp_path / "tools" / "install.sh").write_text("#!/bin/sh\n")
    (tmp_path / "bin").mkdir()
    for name in ("ruff", "mypy", "python"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "{name} runs"\n')
    for path in [*tmp_path.glob("bin/*"), *tmp_path.glob("tools/*")]:
        path.chmod(0o755)
    result = subprocess.run(
        [str(tmp_path / "tools" / "test.sh")],
        env={**os.environ, "CAFFECOMPAT_VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    stages = [line for line in result.stdout.splitlines() if line.startswith("== ")]
    assert [stage.split(":")[0] for stage in stages] == [f"== {i} of 4" for i in range(1, 5)]
