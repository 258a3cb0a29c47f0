"""Caffe's smaller tools under their own names, and the script called caffe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ramp(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell their place."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def read(path: str) -> np.ndarray:
    pixels = cv2.imread(path)
    assert pixels is not None
    return pixels


def write_images() -> None:
    for name, size in (("a/tall.png", (90, 40)), ("b/wide.png", (30, 77)), ("b/sq.jpg", (8, 8))):
        (Path("in") / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(f"in/{name}", ramp(*size))


def test_resize_and_crop(capsys: pytest.CaptureFixture[str]) -> None:
    write_images()
    words = ["--num_clients=2", "--image_lib=OpenCV", "--output_side_length=20"]
    words += ["--input_folder=in", "--output_folder=out"]
    assert main(["resize_and_crop_images.py", *words]) == 0
    assert capsys.readouterr().out == "out: 3 images, 0 could not be read\n"
    # 20 * 90 / 40 = 45 rows, of which 12 are above the square; 20 * 77 / 30 = 51 columns.
    for name, size, corner in (
        ("a/tall.png", (20, 45), (12, 0)),
        ("b/wide.png", (51, 20), (0, 15)),
    ):
        whole = cv2.resize(read(f"in/{name}"), size)
        top, left = corner
        assert np.array_equal(read(f"out/{name}"), whole[top : top + 20, left : left + 20])
    assert read("out/b/sq.jpg").shape == (20, 20, 3)


def test_resize_and_crop_takes_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    write_images()
    Path("list").write_text("b/wide.png 3\nin/a/tall.png 0\nnosuch.png\n")
    flags = ["--input-folder", "in", "--output-folder", "out"]
    assert main(["resize-and-crop-images", "--input", "list", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.out == "out: 2 images, 1 could not be read\n"
    assert "Could not open or find file in/nosuch.png" in captured.err
    assert sorted(str(path) for path in Path("out").rglob("*.*")) == [
        "out/a/tall.png",
        "out/b/wide.png",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--input-folder", "nosuch", "--output-folder", "out"], "nosuch: there is no such folder"),
        (["--input-folder", "in", "--output-folder", "in/."], "holds the images themselves"),
        (["--input-folder", "empty", "--output-folder", "out"], "empty: there are no images in it"),
        (["--input", "bad", "--input-folder", "in", "--output-folder", "out"], "is not below in"),
        (["--input", "none", "--input-folder", "in", "--output-folder", "out"], "none of its 1 im"),
        (["--input-folder", "in", "--output-folder", "out", "--image-lib", "PIL"], "only opencv"),
        (
            ["--input-folder", "in", "--output-folder", "out", "--output-side-length", "0"],
            "output_side_length is 0",
        ),
        (
            ["--input-folder", "in", "--output-folder", "out", "--num-clients", "0"],
            "num-clients is",
        ),
    ],
)
def test_what_cannot_be_cropped(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images()
    before = {path: path.read_bytes() for path in Path("in").rglob("*.*")}
    Path("empty").mkdir()
    Path("bad").write_text("../x.png 1\n")
    Path("none").write_text("x.png 1\n")
    assert main(["resize-and-crop-images", *words]) == 1
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in Path("in").rglob("*.*")} == before
    assert not list(Path("out").rglob("*.*"))


LOG = """\
I0228 23:59:50.000000  1 solver.cpp:1] Iteration 7 of another run
I1231 23:59:58.500000  1 solver.cpp:280] Solving LeNet
I1231 23:59:59.750000  1 solver.cpp:337] Iteration 0, Testing net (#0)
no log line with Iteration in it
I0101 00:00:03.500000  1 solver.cpp:228] Iteration 100, loss = 0.5
I0101 00:00:03.600000  1 sgd_solver.cpp:106] Iteration 100, lr = 0.01
"""


def test_extract_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    lines = LOG.splitlines(keepends=True)
    Path("train.log").write_text("".join(lines[1:]))
    assert main(["extract_seconds.py", "train.log", "seconds"]) == 0
    assert Path("seconds").read_text() == "1.250000\n5.000000\n5.100000\n"
    Path("other.log").write_text("".join(lines[2:]))
    Path("seconds").write_text("before")
    assert main(["extract-seconds", "other.log", "seconds"]) == 1
    assert "it has no line 'Solving ...'" in capsys.readouterr().err
    assert Path("seconds").read_text() == "before"
    assert main(["extract-seconds", "/dev/zero", "seconds"]) == 1
    assert "/dev/zero: is a device" in capsys.readouterr().err


NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 } param { name: "b" lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 20 kernel_size: 5 stride: 2 pad: 1 group: 2 } }
layer { name: "rect" type: "Convolution" bottom: "conv1" top: "rect"
  convolution_param { num_output: 3 kernel_h: 1 kernel_w: 7 } }
layer { name: "pool" type: "Pooling" bottom: "rect" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "mine" type: "Python" bottom: "pool" bottom: "away" top: "mine" loss_weight: 0.5
  python_param { module: "layers" layer: "Mine" } }
"""


def test_summarize(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.prototxt").write_text(NET)
    assert main(["summarize.py", "net.prototxt", "-w", "12"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "data  Data                                 -> data, label*",
        "conv1 Convolution (, b x2 Dx0) data        -> conv1        5/2+1 20/2",
        "rect  Convolution              conv1       -> rect         1x7 3",
        "pool  Pooling                  rect        -> pool         3/2",
        "mine  layers.Mine              pool, away? -> 0.5 * mine*",
        "?: no layer before has such a top",
        "*: no layer reads it",
    ]


def test_summarize_of_an_old_net(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.prototxt").write_text('layers { name: "c" type: RELU bottom: "x" top: "c" }')
    assert main(["summarize", "net.prototxt"]) == 0
    assert "c ReLU  x? -> c*" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["caffe", "caffe.bin"])
def test_old_command_lines_work_by_one_substitution(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``sed 's#build/tools/#caffecompat #'`` makes of ``build/tools/caffe train``."""
    assert main([word, "train", "--solver=nosuch.prototxt"]) == 1
    assert "nosuch.prototxt" in capsys.readouterr().err
    assert main([word]) == 2
    assert "usage: caffecompat VERB" in capsys.readouterr().err
    Path("list").write_text("")
    assert main(["convert_imageset.bin", "x/", "list", "db"]) == 1


def test_a_script_called_caffe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-caffe-command", "--dir", "build/tools", "--tools"]) == 0
    printed = capsys.readouterr().out
    assert "build/tools/caffe and 23 others beside it\nwrote 8 in build/examples\n" in printed
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}

    def call(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, shell=True, env=environment, capture_output=True, text=True, check=False
        )

    # What ends before torch is imported.
    done = call("./build/tools/caffe train --solver=nosuch.prototxt --max-bytes=few")
    assert done.returncode == 2
    assert "caffecompat train: error: argument --max-bytes: " in done.stderr
    assert (
        "usage: caffecompat convert-imageset"
        in call("./build/tools/convert_imageset.bin --help").stdout
    )
    for tool in ("extract_features", "convert_annoset.bin", "classification.bin"):
        assert "usage: caffecompat" in call(f"build/tools/{tool} --help").stdout
    # As examples/cifar10/create_cifar10.sh calls it.
    cifar = "./build/examples/cifar10/convert_cifar_data.bin --help"
    assert "usage: caffecompat convert-cifar-data" in call(cifar).stdout
    assert sorted(path.name for path in Path("build/examples").iterdir()) == [
        "cifar10",
        "cpp_classification",
        "mnist",
        "siamese",
    ]
    Path("net.prototxt").write_text('layers { name: "c" type: RELU bottom: "x" top: "c" }')
    assert call("build/tools/upgrade_net_proto_text.bin net.prototxt new.prototxt").returncode == 0
    assert 'type: "ReLU"' in Path("new.prototxt").read_text()
    # Again is no harm.
    assert main(["install-caffe-command", "--dir", "build/tools"]) == 0
    assert sys.executable in Path("build/tools/caffe").read_text()


def test_caffe_s_own_examples_are_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Path("build/examples/mnist/convert_mnist_data.bin")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"\x7fELF")
    assert main(["install-caffe-command", "--dir", "build/tools", "--tools"]) == 1
    assert f"{theirs}: is another program; give another --dir" in capsys.readouterr().err
    assert not Path("build/tools").exists()
    assert theirs.read_bytes() == b"\x7fELF"
    # In a folder of another name there are no examples beside it.
    assert main(["install-caffe-command", "--dir", "build/bin", "--tools"]) == 0
    assert [path.name for path in Path("build/examples").iterdir()] == ["mnist"]


def test_another_caffe_is_never_overwritten_or_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    (theirs / "caffe").write_text("#!/bin/sh\necho theirs\n")
    (theirs / "caffe").chmod(0o755)
    assert main(["install-caffe-command", "--dir", str(theirs)]) == 1
    assert "is another program" in capsys.readouterr().err
    assert (theirs / "caffe").read_text().endswith("echo theirs\n")
    # Before theirs in PATH it would hide it, behind it be hidden.
    for path in (f"{ours}:{theirs}", f"{theirs}:{ours}"):
        monkeypatch.setenv("PATH", path)
        assert main(["install-caffe-command", "--dir", str(ours)]) == 1
        assert f"would come beside {theirs}/caffe" in capsys.readouterr().err
    assert os.listdir(ours) == []
    monkeypatch.setenv("PATH", str(theirs))
    assert main(["install-caffe-command", "--dir", str(ours)]) == 0
    assert f"{ours} is not in PATH; call it as {ours}/caffe" in capsys.readouterr().out
