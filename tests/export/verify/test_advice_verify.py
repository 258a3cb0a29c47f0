"""What ``caffecompat verify`` and its engines advise, followed to the letter, works."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.export.engines.base import EngineOptions, open_engine
from caffecompat.export.opencv import process
from tests.commands import Run, outcome, refused
from tests.export.models import random_inputs
from tests.export.verify.other_opencv import FAKE_OPENCV_4, other_python
from tests.places import REPOSITORY

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Compares files of one model in all forms; returns what is said if it is refused."""
    monkeypatch.chdir(tmp_path)
    write_net(TEXT)
    for suffix in ("pt", "pt2", "py"):
        assert main(["convert", "net.caffemodel", f"net.{suffix}"]) == 0
    Path("net.safetensors").unlink(missing_ok=True)

    def call(command: str) -> str:
        code, out, error = outcome(["verify", *command.split()], capfd)
        return error + out if code else ""

    return call


def write_net(text: str) -> None:
    Path("net.prototxt").write_text(text)
    Net("net.prototxt", seed=5).save("net.caffemodel")


def test_a_prototxt_without_weights(verify: Run) -> None:
    words = "net.prototxt: has no weights; give a weight file in its place, and --model net.proto"
    assert words in verify("net.prototxt net.pt")
    assert not verify("net.caffemodel net.pt --model net.prototxt")


def test_files_without_an_engine(verify: Run) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["convert", "net.caffemodel", "net.onnx"]) == 0
    shutil.move("net.onnx", "net.model")
    error = verify("net.caffemodel net.model")
    advised = re.search(r"name one before a colon, for example (\S+) \(known: ", error)
    assert advised is not None, error
    assert not verify(f"net.caffemodel {advised[1]}")


def test_code_in_files(verify: Run) -> None:
    words = "would run; if you have read it, allow that with --allow-python"
    assert words in verify("net.caffemodel net.py")
    assert not verify("net.caffemodel net.py --allow-python")
    words = "such a file may contain; if you know where it comes from, give --trust"
    assert words in verify("net.caffemodel net.pt2")
    assert not verify("net.caffemodel net.pt2 --trust")


def test_source_without_weights(verify: Run) -> None:
    Path("alone").mkdir()
    shutil.copy("net.py", "alone/net.py")
    command = "net.pt2 alone/net.py --trust --allow-python"
    words = "put its state dict beside it as net.safetensors, or compare it with a caffemodel"
    assert words in verify(command)
    assert not verify("net.caffemodel alone/net.py --allow-python")
    assert main(["convert", "net.caffemodel", "alone/net.safetensors"]) == 0
    assert not verify(command)


def test_the_cause_of_a_difference(verify: Run) -> None:
    pytest.importorskip("onnxruntime")
    net = Net("net.prototxt", weights="net.caffemodel")
    net.params["conv"][0].data[...] *= 2
    net.save("other.caffemodel")
    command = ["convert", "other.caffemodel", "other.onnx", "--model", "net.prototxt"]
    assert main(command) == 0
    words = "no guess at the cause: give the weight file as one of the two, with --model"
    assert words in verify("net.pt2 other.onnx --trust --layers")
    said = verify("net.caffemodel other.onnx --model net.prototxt --layers")
    assert "DIFFER" in said
    assert "no guess" not in said


def test_the_picture_of_differences(verify: Run) -> None:
    pytest.importorskip("matplotlib")
    words = "the picture is a PNG; give a name that ends in .png"
    assert words in verify("net.caffemodel net.pt --model net.prototxt --plot found.svg")
    assert not verify("net.caffemodel net.pt --model net.prototxt --plot found.png")
    assert Path("found.png").read_bytes().startswith(b"\x89PNG")


def test_the_definition_and_the_opencv_of_another_python(verify: Run, tmp_path: Path) -> None:
    python = other_python(tmp_path, "raise ImportError")
    where = "opencv-caffe:net.caffemodel"
    without = EngineOptions(opencv_python=python)
    words = "net.caffemodel: give its net definition with --model deploy.prototxt"
    refused(lambda: open_engine(where, without), words)
    Path("net.prototxt").rename("deploy.prototxt")
    options = EngineOptions(model="deploy.prototxt", opencv_python=python)
    inputs = random_inputs(Net("deploy.prototxt"))
    words = "this Python has no OpenCV; install opencv-python-headless"
    refused(lambda: open_engine(where, options).run(inputs), words)
    assert '"opencv-python-headless>=' in (REPOSITORY / "pyproject.toml").read_text()
    # What that package does, for a program that has the interface of OpenCV 4.
    (tmp_path / "cv2.py").write_text(FAKE_OPENCV_4)
    assert open_engine(where, options).run(inputs)["conv"].shape == (2, 5)


def test_opencv_that_takes_too_long(verify: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child that does not end with two images."""
    pytest.importorskip("cv2")
    pytest.importorskip("onnx")
    wait = (
        "import time, numpy\n"
        "if len(numpy.load({folder!r} + '/inputs.npz')['0']) > 1: time.sleep(1000)\n"
        "from caffecompat"
    )
    child = process._START_CHILD.replace("from caffecompat", wait)
    monkeypatch.setattr(process, "_START_CHILD", child)

    def run(text: str) -> np.ndarray:
        write_net(text)
        assert main(["convert", "net.caffemodel", "net.onnx", "--force"]) == 0
        engine = open_engine("opencv:net.onnx", EngineOptions())
        return engine.run(random_inputs(Net("net.prototxt")))["conv"]

    with monkeypatch.context() as patch:
        patch.setattr(process, "MAX_SECONDS", 0.5)
        words = "seconds and was stopped; run a batch of one image, or smaller images"
        refused(lambda: run(TEXT), words)
    assert run(TEXT.replace("dim: 2", "dim: 1")).shape == (1, 5, 7, 5)
