"""The verb deploy: which file it writes, what it says, what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.cli.main import main
from tests.net.nets import CLASSIFIER


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small_train_val.prototxt"
    path.write_text("# a comment\n" + CLASSIFIER)
    return path


def test_it_writes_beside_the_source_and_never_over_a_file(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source.with_name("small_deploy.prototxt")
    assert main(["deploy", str(source)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"wrote {target}; the comments of {source} are not kept"
    text = target.read_text()
    assert text.startswith('name: "small"\nlayer {\n  name: "data"\n  type: "Input"\n')
    assert "SoftmaxWithLoss" not in text
    assert "filler" not in text
    target.write_text("mine")
    assert main(["deploy", str(source)]) == 1
    assert target.read_text() == "mine"
    assert "exists already; give another target, or --force" in capsys.readouterr().err
    assert main(["deploy", str(source), "--force", "--batch", "6", "--output", "fc"]) == 0
    assert "dim: 6" in target.read_text()
    assert "Softmax" not in target.read_text()


def test_a_target_of_its_own_and_a_stated_shape(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.prototxt"
    assert main(["deploy", str(source), str(target), "--shape", "data=5x2x7x5"]) == 0
    assert "dim: 5" in target.read_text()


def test_other_names_get_an_ending(tmp_path: Path) -> None:
    source = tmp_path / "net.prototxt"
    source.write_text(CLASSIFIER)
    assert main(["deploy", str(source)]) == 0
    assert (tmp_path / "net_deploy.prototxt").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("layer { name: ", "train_val.prototxt:1:"),
        ("", "the file is empty"),
        ('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }', "--output"),
        ('layer { name: "x" type: "Bogus" bottom: "y" top: "x" }', "no data or input layer"),
    ],
)
def test_a_bad_source_is_one_sentence(
    text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "train_val.prototxt"
    source.write_text(text)
    assert main(["deploy", str(source)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("caffecompat: error: ")
    assert problem in said
    assert not (tmp_path / "deploy.prototxt").exists()


@pytest.mark.parametrize("flags", [["--batch", "0"], ["--batch", "x"], ["--shape", "data"]])
def test_bad_usage(source: Path, flags: list[str]) -> None:
    assert main(["deploy", str(source), *flags]) == 2


def test_a_missing_source(tmp_path: Path) -> None:
    assert main(["deploy", str(tmp_path / "none.prototxt")]) == 1
