"""What is said of a path that is not there: another machine's, a typing mistake, a dead link."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine
from caffecompat.errors import FileProblem
from caffecompat.input_files import counterpart, read_input

NET = """layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "/home/she/cats/input/train_lmdb" backend: LMDB batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" }"""
SOLVER = """net: "/home/she/cats/models/one/net.prototxt" base_lr: 0.1 lr_policy: "fixed"
max_iter: 2 snapshot_after_train: false"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project that was made in /home/she/cats."""
    root = tmp_path / "cats"
    (root / "models/one").mkdir(parents=True)
    (root / "input").mkdir()
    monkeypatch.chdir(root)
    Path("models/one/net.prototxt").write_text(NET)
    Path("models/one/solver.prototxt").write_text(SOLVER)
    images = np.zeros((3, 1, 5, 4), np.uint8)
    caffecompat.write_database("input/train_lmdb", zip(images, range(3), strict=True))


@pytest.mark.parametrize(
    ("path", "near", "found"),
    [
        ("/home/she/cats/models/one/net.prototxt", None, "models/one/net.prototxt"),
        ("C:\\\\she\\\\models\\\\one\\\\net.prototxt", None, "models/one/net.prototxt"),
        ("cats/models/one/net.prototxt", None, "models/one/net.prototxt"),
        ("/x/net.prototxt", None, None),
        ("/x/net.prototxt", "models/one/solver.prototxt", "models/one/net.prototxt"),
        ("net.prototxt", "models/one/solver.prototxt", None),  # folder_with has it
        ("/x/one/net.prototxt", "models/one/solver.prototxt", "models/one/net.prototxt"),
        ("/x/two/net.prototx", "models/one/solver.prototxt", None),
        ("", "models/one/solver.prototxt", None),
        ("/", "models/one/solver.prototxt", None),
    ],
)
def test_the_end_of_a_path(path: str, near: str | None, found: str | None) -> None:
    assert counterpart(path, near) == found


def test_from_another_folder_the_whole_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    solver = Path("models/one/solver.prototxt").absolute()
    (Path.cwd().parent / "other").mkdir()
    monkeypatch.chdir("../other")
    found = counterpart("/home/she/cats/models/one/net.prototxt", solver)
    assert found == str(solver.parent / "net.prototxt")


def problem(path: str) -> str:
    with pytest.raises(FileProblem) as caught:
        read_input(path)
    return str(caught.value)


def test_a_file_that_is_not_there() -> None:
    here = f"there is no such file (from {Path.cwd()}"
    moved = "/home/she/cats/models/one/net.prototxt"
    assert problem(moved) == f"{moved}: {here}; here it may be models/one/net.prototxt)"
    wrong = "models/one/slover.prototxt"
    assert problem(wrong) == f"{wrong}: {here}; did you mean 'models/one/solver.prototxt'?)"
    for other in ("models/one/weights.caffemodel", "nowhere/solver.prototxt", "zzz", "x.prototxt"):
        assert problem(other) == f"{other}: {here})"


def test_a_dead_link() -> None:
    Path("models/one/latest.prototxt").symlink_to("gone.prototxt")
    said = problem("models/one/latest.prototxt")
    assert "is a link to gone.prototxt, which is not there" in said


def test_the_doctor_names_what_is_here() -> None:
    solver, net = Path("models/one/solver.prototxt"), Path("models/one/net.prototxt")
    reports = {file.path: file.findings for file in examine(Path()).files}
    (said,) = (one.sentence for one in reports[str(solver)] if "not there" in one.sentence)
    found = re.fullmatch(
        r"the net (\S+) is not there; here it may be (\S+): write that in .*", said
    )
    assert found
    solver.write_text(SOLVER.replace(found[1], found[2]))
    (said,) = (one.sentence for one in reports[str(net)] if "not there" in one.sentence)
    assert said.startswith("the database /home/she/cats/input/train_lmdb is not there; here it may")
    net.write_text(NET.replace("/home/she/cats/input", "input"))
    assert all(file.verdict.value == "runs" and not file.findings for file in examine(Path()).files)


def test_training_says_what_to_write(capfd: pytest.CaptureFixture[str]) -> None:
    solver, net = Path("models/one/solver.prototxt"), Path("models/one/net.prototxt")
    command = ["train", "--cpu", "--solver", str(solver)]
    assert main(command) == 1
    found = re.search(r"change net to (\S+), if that is the net", capfd.readouterr().err)
    assert found
    solver.write_text(SOLVER.replace("/home/she/cats/models/one/net.prototxt", found[1]))
    assert main(command) == 1
    said = capfd.readouterr().err
    found = re.search(r'if (\S+) is meant, write "\1" into models/one/net.prototxt', said)
    assert found
    net.write_text(NET.replace("/home/she/cats/input/train_lmdb", found[1]))
    assert main(command) == 0
