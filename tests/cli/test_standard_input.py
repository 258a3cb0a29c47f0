"""Verbs that read standard input where ``-`` stands for it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from caffecompat.cli.main import main

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 30 } } }
layer { name: "y" type: "ReLU" bottom: "x" top: "y" }
"""


@pytest.mark.parametrize("verb", ["graph", "inspect", "summarize", "summary"])
def test_a_dash_is_standard_input(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = NET
    assert _run_with(monkeypatch, text, verb, "-") == 0
    assert "ReLU" in capsys.readouterr().out
    assert _run_with(monkeypatch, text + "layer {", verb, "-") == 1
    assert "standard input:4:" in capsys.readouterr().err
    assert _run_with(monkeypatch, text, verb, "-", "--max-bytes", "20") == 1
    assert "standard input: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["upgrade-net", "upgrade-solver"])
@pytest.mark.parametrize("binary", [False, True])
def test_the_upgrades_read_standard_input(
    verb: str,
    binary: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if verb == "upgrade-net":
        data = b"\x0a\x03one" if binary else b'name: "one"'
    else:
        # Field 5 is base_lr.
        data = b"\x2d\x00\x00\x80\x3f" if binary else b"base_lr: 1"
    assert _run_with(monkeypatch, data, verb, "-", "out") == 0
    assert "standard input is in today's form already" in capsys.readouterr().out
    assert Path("out").exists()
    if binary:
        assert Path("out").read_bytes() == data
    assert _run_with(monkeypatch, b"\xff\x00\x01", verb, "-", "none") == 1
    assert "standard input: " in capsys.readouterr().err
    assert not Path("none").exists()


def _run_with(monkeypatch: pytest.MonkeyPatch, given: str | bytes, *words: str) -> int:
    data = given.encode() if isinstance(given, str) else given
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return main(list(words))
