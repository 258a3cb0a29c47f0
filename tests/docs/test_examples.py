"""The complete examples in docs/ run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def save_files(page: Path, folder: Path) -> list[str]:
    """Writes every code block that carries a file name."""
    found = BLOCK.findall(page.read_text())
    for name, text in found:
        (folder / name).write_text(text)
    return [name for name, _ in found]


def test_a_layer_of_your_own(tmp_path: Path) -> None:
    assert save_files(ROOT / "docs" / "layers.md", tmp_path) == [
        "swoosh.py",
        "swoosh.prototxt",
        "run.py",
    ]
    result = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout == "torch.Size([3]) True\n"
