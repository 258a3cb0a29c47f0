"""Paths in a prototxt are relative to the folder of the start: messages from another folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.cli.main import main

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "examples/a/train_lmdb" backend: LMDB batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """net: "examples/a/net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1
snapshot: 1 snapshot_prefix: "PREFIX" solver_mode: CPU
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "my caffe"
    folder = root / "examples" / "a"
    folder.mkdir(parents=True)
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER.replace("PREFIX", "examples/a/x"))
    (folder / "here.prototxt").write_text(SOLVER.replace("PREFIX", "x"))
    monkeypatch.chdir(root)
    images = np.zeros((3, 1, 5, 4), np.uint8)
    caffecompat.write_database("examples/a/train_lmdb", zip(images, range(3), strict=True))
    caffecompat.Net("examples/a/net.prototxt").save("examples/a/x.caffemodel")
    return root


@pytest.mark.parametrize("start", ["examples/a", ".."])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["test", "--model", "net.prototxt", "--weights", "x.caffemodel"],
            "examples/a/train_lmdb: there is no database (from {here}; from {root} there is one); "
            "run from that folder: cd '{root}'",
        ),
        (
            ["train", "--solver", "solver.prototxt"],
            "cannot write snapshots to 'examples/a/x': No such file or directory (examples/a)",
        ),
        (
            ["train", "--solver", "here.prototxt"],
            "net: examples/a/net.prototxt: there is no such file (from {here}",
        ),
    ],
)
def test_messages_name_the_folder_to_start_in(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    start: str,
    words: list[str],
    said: str,
) -> None:
    here = (root / start).resolve()
    monkeypatch.chdir(here)
    folder = "" if start == "examples/a" else f"{root.name}/examples/a/"
    named = [word if word.startswith("-") or "." not in word else folder + word for word in words]
    assert main(named) == 1
    error = capsys.readouterr().err
    assert said.format(here=here, root=root) in error
    assert f"cd '{root}'" in error
    assert "mkdir" not in error
    assert "convert-imageset" not in error
    # The advice, followed.
    monkeypatch.chdir(root)
    assert main([w if "." not in w else f"examples/a/{w}" for w in words]) == 0


def test_a_missing_file_that_a_folder_above_has(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = root / "examples"
    monkeypatch.chdir(here)
    assert main(["summary", "examples/a/net.prototxt"]) == 1
    assert f"(from {here}; from {root} there is one)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "summary NET",
        "inspect NET",
        "deploy NET deploy.prototxt",
        "draw NET net.html",
        "dataset show --net NET records.png",
    ],
)
@pytest.mark.parametrize("kind", ["Data", "HDF5Data"])
def test_each_verb_looks_near_the_net(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    words: str,
) -> None:
    Path("examples/a/list.txt").touch()
    rows = NET.replace('"Data"', '"HDF5Data"').replace("backend: LMDB", "")
    rows = rows.replace("data_param", "hdf5_data_param").replace("train_lmdb", "list.txt")
    Path("examples/a/net.prototxt").write_text({"Data": NET, "HDF5Data": rows}[kind])
    monkeypatch.chdir(root.parent)
    given = [f"{root.name}/examples/a/net.prototxt" if w == "NET" else w for w in words.split()]
    assert main(given) == (0 if given[0] == "draw" else 1)
    assert f"run from that folder: cd '{root}'" in "".join(capsys.readouterr())


def test_what_no_folder_has_gets_the_commands_that_make_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("examples/a/train_lmdb")
    words = ["--model", "examples/a/net.prototxt", "--weights", "examples/a/x.caffemodel"]
    assert main(["test", *words]) == 1
    error = capsys.readouterr().err
    assert f"there is no database (from {root}); to make it" in error


def test_paths_of_windows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net, weights = Path("examples/a/net.prototxt"), "examples/a/x.caffemodel"
    good = net.read_text()
    net.write_text(good.replace("examples/a/train_lmdb", "examples\\\\a\\\\train_lmdb"))
    words = ["test", "--model", str(net), "--weights", weights, "--iterations", "1"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "examples\\a\\train_lmdb: there is no database" in error
    assert "convert-imageset" not in error
    found = re.search(r'but there is (\S+); write "(\S+)" into examples/a/net\.prototxt', error)
    assert found is not None, error
    assert found[1] == found[2] == "examples/a/train_lmdb"
    net.write_text(good)
    assert main(words) == 0
