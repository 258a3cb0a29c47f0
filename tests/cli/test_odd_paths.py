"""Paths that name no file: one sentence from every verb that makes its target's name from one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caffecompat.cli.main import main

NAMES = ["", ".", "..", "/", "\0", "a" * 5000, "a\n\nb", "/dev/null", "folder", "loop"]


FOLDERS = ("", ".", "..", "/", "folder")
VERBS = ("draw", "deploy", "convert", "summary", "inspect")
# A folder is a project, which doctor looks through.
CASES = [(verb, name) for name in NAMES for verb in VERBS]
CASES += [("doctor", name) for name in NAMES if name not in FOLDERS]


@pytest.mark.parametrize(("verb", "name"), CASES, ids=lambda word: word[:9] or "empty")
def test_a_sentence(
    verb: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "work" / "folder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    Path("loop").symlink_to("loop")
    assert main([verb, name, *(["--to", "npz"] if verb == "convert" else [])]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + name.count("\n")
    assert all(line.startswith("caffecompat: error: ") and line.isprintable() for line in lines)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "loop", "work"]


READS = [
    ["summary", "{}"],
    ["graph", "{}"],
    ["inspect", "{}"],
    ["summarize", "{}"],
    ["draw", "{}", "x.html"],
    ["draw-net", "{}", "x.dot"],
    ["deploy", "{}", "x.prototxt"],
    ["upgrade-net", "{}", "x.prototxt"],
    ["upgrade-solver", "{}", "x.prototxt"],
    ["diff", "{}", "{}"],
    ["convert", "{}", "x.npz"],
    ["verify", "{}", "{}"],
    ["train", "--solver", "{}"],
    ["test", "--model", "{}", "--weights", "{}"],
    ["time", "--model", "{}"],
    ["doctor", "{}"],
    ["parse-log", "{}", "."],
    ["plot-log", "{}", "-o", "x.png"],
    ["extract-seconds", "{}", "x.txt"],
    ["dataset", "info", "{}"],
    ["compute-image-mean", "{}", "x.binaryproto"],
    ["convert-imageset", "./", "{}", "x_lmdb"],
]


@pytest.mark.parametrize("kind", ["device", "pipe", "link"])
@pytest.mark.parametrize("words", READS, ids=lambda words: " ".join(words[:2]))
def test_no_verb_reads_a_device_or_a_pipe(
    words: list[str],
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They have no end, or nobody writes to them."""
    monkeypatch.chdir(tmp_path)
    source = {"device": "/dev/zero", "pipe": "pipe", "link": "link"}[kind]
    if kind == "pipe":
        os.mkfifo("pipe")
    elif kind == "link":
        Path("link").symlink_to("/dev/zero")
    before = list(tmp_path.iterdir())
    assert main([word.format(source) for word in words]) == 1
    error = capsys.readouterr().err
    assert f"{source}: " in error
    assert list(tmp_path.iterdir()) == before
