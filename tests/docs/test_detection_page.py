"""The files and commands of the page about detection, its training among them, do what it says."""

from __future__ import annotations

import re
import runpy
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from caffecompat.cli.flags.spelling import normalise
from caffecompat.cli.main import load_verb, main, verb_parser
from tests.places import REPOSITORY

PAGE = (REPOSITORY / "docs" / "detection.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines()]


def test_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    with_onnx = all(find_spec(name) is not None for name in ("onnx", "onnxruntime"))
    first, *rest = (m.groups() for m in BLOCK.finditer(PAGE))
    # The published models of the first block are not here.
    for words in commands(first[2]):
        parser = verb_parser(words[1], load_verb(words[1]))
        parser.parse_args(normalise(words[2:], parser))
    for kind, name, text in rest:
        if kind == "sh":
            for words in commands(text):
                if words[0] == "python":
                    runpy.run_path(words[1], run_name="__main__")
                elif "predictions.onnx" not in words or with_onnx:
                    assert main(words[1:]) == 0, words
            continue
        Path(name).write_text(text)
        if name == "score.py":
            runpy.run_path(name, run_name="__main__")
    out, err = capfd.readouterr()
    assert "train_lmdb: 200 images, " in out
    assert "True [1, 2]" in out
    assert "wrote boxes.png" in out
    assert Path("boxes.png").stat().st_size > 100
    (shown,) = re.findall(r"Test net output #0: detection_eval = (\S+)", err)
    assert float(shown) > 0.9
    classes = [float(value) for value in re.findall(r"\] class\d: (\S+)", err)]
    assert sum(classes[:2]) / 2 == pytest.approx(float(shown), abs=1e-5)
    (tested,) = re.findall(r"\] detection_eval = (\S+)", err)
    assert tested == shown


def test_the_readme_links_the_page() -> None:
    assert "(docs/detection.md)" in (REPOSITORY / "README.md").read_text("utf-8")
