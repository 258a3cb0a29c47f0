"""The bench of evaluation runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.evaluate.small import NET
from tools.bench import evaluate


def test_it_prints_both_ratios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    words = ["--model", str(tmp_path / "net.prototxt"), "--images", "1", "--turns", "1"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *words])
    assert evaluate.main() == 0
    out = capsys.readouterr().out
    assert "crops / dense: " in out
    assert "bare net / dense: " in out
