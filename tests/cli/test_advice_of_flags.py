"""A command that is refused, and the same one changed as its message says: it succeeds."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.codec.images import encode_image
from caffecompat.solver import Solver
from tests.cli.inference.detection_models import single_shot
from tests.solver.small import write_training

DEPLOY = """layer { name: "in" type: "Input" top: "data" input_param {
  shape { dim: 1 dim: 3 dim: 5 dim: 5 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 3 } }
"""

WEIGHTS = "snap_iter_10.caffemodel"

# A command, the words of its refusal, the same command as the words advise.
CASES = [
    (
        "dataset show",
        "give a database, or a net whose data layer to show (--net PROTOTXT), and the picture",
        ["dataset show train_lmdb new.png", "dataset show --net net.prototxt new2.png"],
    ),
    (
        "dataset show train_lmdb",
        "train_lmdb.png: already exists; name it to replace it, or give another name",
        ["dataset show train_lmdb train_lmdb.png", "dataset show train_lmdb another.png"],
    ),
    (
        "deploy net.prototxt new.prototxt --batch 0",
        "expected a whole number from 1 on",
        ["deploy net.prototxt new.prototxt --batch 1"],
    ),
    (
        "deploy net.prototxt deploy.prototxt",
        "deploy.prototxt: exists already; give another target, or --force",
        ["deploy net.prototxt another.prototxt", "deploy net.prototxt deploy.prototxt --force"],
    ),
    (
        "diff snap_iter_5.solverstate snap_iter_10.caffemodel",
        "give two weight files or two prototxts",
        [
            "diff snap_iter_10.caffemodel snap_iter_10.caffemodel",
            "diff net.prototxt net.prototxt",
        ],
    ),
    (
        "verify",
        "give two model files, or --recorded and recorded cases",
        [
            f"verify {WEIGHTS} {WEIGHTS} --model made.prototxt",
            "verify --recorded case.prototxt",
        ],
    ),
    (
        "draw net.prototxt drawn.html",
        "drawn.html: already exists; replace it with --force, or name another target",
        ["draw net.prototxt drawn.html --force", "draw net.prototxt another.html"],
    ),
    (
        "install-caffe-command --dir taken",
        "taken/caffe: is another program; give another --dir",
        ["install-caffe-command --dir free"],
    ),
    (
        "train --solver small.solver.prototxt --gpu x",
        "--gpu x: give GPU ids such as 0 or 0,1, all, or none for the CPU",
        ["train --solver small.solver.prototxt --gpu none"],
    ),
    (
        "train --solver small.solver.prototxt --cuda-graph",
        "CUDA graphs need a GPU; give --gpu, or leave the flag out",
        ["train --solver small.solver.prototxt"],
    ),
    (
        "train --solver small.solver.prototxt --weights snap_iter_5.caffemodel "
        "--snapshot snap_iter_5.solverstate",
        "give a snapshot to resume a training or weights to start one from, not both",
        [
            "train --solver small.solver.prototxt --snapshot snap_iter_5.solverstate",
            "train --solver small.solver.prototxt --weights snap_iter_5.caffemodel",
        ],
    ),
    (
        "extract-seconds net.prototxt seconds.txt",
        "give what 'caffe train' or 'caffecompat train' has written to standard error",
        ["extract-seconds train.log seconds.txt"],
    ),
    (
        "parse-log net.prototxt",
        "give what 'caffe train' or 'caffecompat train' has written to standard error",
        ["parse-log train.log"],
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that has ended, and files in the way of new ones."""
    folder = tmp_path_factory.mktemp("trained")
    Solver(write_training(folder)).solve()
    return folder


def write_case(path: Path) -> None:
    """A net with the values of a pass, as Caffe records them."""
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }\n'
        'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }\n'
    )
    values = {"in/x": np.ones((2, 5), np.float32), "out/y": np.ones((2, 5), np.float32)}
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **values)


def run(words: str) -> int:
    """The exit code of a verb."""
    try:
        return main(shlex.split(words))
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_what_a_refusal_advises_runs(
    case: tuple[str, str, list[str]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    Path("deploy.prototxt").write_text(DEPLOY)
    write_case(Path("case.prototxt"))
    for name in ("train_lmdb.png", "drawn.html", "taken/caffe"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("of the user")
    assert run("train --solver small.solver.prototxt") == 0
    Path("train.log").write_text(capfd.readouterr().err)
    assert run("deploy net.prototxt made.prototxt --force") == 0
    bad, words, fixes = case
    assert run(bad) != 0
    said = capfd.readouterr().err
    assert words in said, said
    for fix in fixes:
        assert run(fix) == 0, capfd.readouterr().err


def test_a_program_called_caffe_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("theirs", "ours", "away"):
        Path(name).mkdir()
    Path("theirs/caffe").write_text("#!/bin/sh\n")
    Path("theirs/caffe").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/theirs:{tmp_path}/ours:/usr/bin:/bin")
    assert run("install-caffe-command --dir ours") == 1
    assert "another program; give a --dir that is not in PATH" in capfd.readouterr().err
    assert run("install-caffe-command --dir away") == 0
    assert f"is not in PATH; call it as {Path('away/caffe')}" in capfd.readouterr().out
    assert subprocess.run(["away/caffe", "--version"], check=False).returncode == 0


def test_a_log_without_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = path.read_text().replace("test_iter: 2 test_interval: 4", "")
    silent = text.replace("display: 1", "display: 0")
    tested = path.read_text().replace("display: 1", "display: 0")
    for solver, code in ((silent, 1), (text, 0), (tested, 0)):
        path.write_text(solver)
        assert run(f"train --solver {path}") == 0
        Path("train.log").write_text(capfd.readouterr().err)
        assert run("plot-log train.log --output plot.png") == code
        captured = capfd.readouterr()
        assert ("train with 'display' or 'test_interval' set" in captured.err) == (code == 1)
        assert run("parse-log train.log") == 0
        shown = capfd.readouterr().out
        words = "train.log: shows no outputs; train with 'display' or 'test_interval' set"
        assert (words in shown) == (code == 1)
        assert ("wrote " in shown) == (code == 0)


def test_a_picture_without_graphviz(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(folder / "none"))
    assert run("draw net.prototxt plain.svg") == 1
    assert "or name a target that needs none: plain.html, plain.dot" in capfd.readouterr().err
    for target in ("plain.html", "plain.dot"):
        assert run(f"draw net.prototxt {target}") == 0


def test_the_sides_of_images_that_detect_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(encode_image(np.zeros((40, 80, 3), np.uint8), "png"))
    command = f"detect a.png {shlex.join(single_shot(tmp_path))} --preprocessing none"
    for bad in ("--min-side 0", "--min-side -3", "--min-side 40 --max-side 30"):
        assert run(f"{command} {bad}") == 1
        assert "; give positive numbers, in this order" in capfd.readouterr().err
    for good in ("--min-side 3", "--min-side 30 --max-side 40", "--min-side 30 --max-side 30"):
        assert run(f"{command} {good}") == 0
