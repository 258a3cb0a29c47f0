"""Paths that name no file: one sentence from every verb that makes its target's name from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main

NAMES = ["", ".", "..", "/", "\0", "a" * 5000, "a\n\nb", "/dev/null", "folder", "loop"]


@pytest.mark.parametrize("verb", ["draw", "deploy", "convert", "summary", "inspect", "doctor"])
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_sentence(
    verb: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if verb == "doctor" and name in ("", ".", "..", "/", "folder"):
        pytest.skip("a project, which doctor looks through")
    (tmp_path / "work" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    Path("loop").symlink_to("loop")
    assert main([verb, name, *(["--to", "npz"] if verb == "convert" else [])]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + name.count("\n")
    assert all(line.startswith("caffecompat: error: ") and line.isprintable() for line in lines)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "loop", "work"]
