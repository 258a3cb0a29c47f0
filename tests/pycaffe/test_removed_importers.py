"""Scripts for programs that read Caffe models no more: hints, followed to the letter."""

from __future__ import annotations

import ast
import re
import shlex
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.doctor.examination import examine
from caffecompat.pycaffe.running import python2
from caffecompat.pycaffe.running.removed_importers import READ_NET

NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""
SCRIPT = """
import cv2 as cv, numpy
net = cv.dnn.readNetFromCaffe("deploy.prototxt", "net.caffemodel")
image = numpy.arange(90, dtype=numpy.uint8).reshape(6, 5, 3)
net.setInput(cv.dnn.blobFromImage(image, 0.1, mean=(1, 2, 3)))
result = net.forward(["conv", "prob"])
"""


@pytest.fixture(autouse=True)
def _opencv_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe", raising=False)
    Path("deploy.prototxt").write_text(NET)
    Net("deploy.prototxt", seed=3).save("net.caffemodel")


def hint(script: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(script, {})
    return python2.hint_about(caught.value) or ""


def test_the_remedy_gives_caffe_s_numbers() -> None:
    pytest.importorskip("onnx")
    said = hint(SCRIPT)
    assert [(3, said)] == python2.uses(ast.parse(SCRIPT))
    line = re.search(r"write (cv2\S+) and", said)
    command = re.search(r"'(caffecompat convert .*?)' writes", said)
    assert line is not None
    assert command is not None
    outputs = ["--output", "conv", "--output", "prob"]
    assert main([*shlex.split(command[1])[1:], *outputs]) == 0
    changed = re.sub(r"cv\.dnn\.readNetFromCaffe\(.*\)", line[1].replace("cv2.", "cv."), SCRIPT)
    names: dict[str, list[np.ndarray]] = {}
    exec(changed, names)
    image = np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
    data = (image.astype(np.float32) - (1, 2, 3)).transpose(2, 0, 1)[None] * np.float32(0.1)
    net = Net("deploy.prototxt", weights="net.caffemodel")
    net.forward(data=data.astype(np.float32))
    for found, blob in zip(names["result"], ("conv", "prob"), strict=True):
        np.testing.assert_allclose(found, net.blobs[blob].data, rtol=1e-5, atol=1e-5)


def test_read_net() -> None:
    script = 'from cv2 import dnn\ndnn.readNet("a.prototxt", "b.caffemodel")\ndnn.readNet("a.onnx")'
    assert python2.uses(ast.parse(script)) == [(2, READ_NET)]
    error = cv2.error("dnn_read.cpp:23: error: (-2) Caffe importer has been removed. Please use")
    assert python2.hint_about(error) == READ_NET


def test_an_opencv_that_has_the_importer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.dnn, "readNetFromCaffe", lambda *_: None, raising=False)
    assert python2.uses(ast.parse(SCRIPT)) == []
    assert python2.uses(ast.parse('import cv2\ncv2.dnn.readNet("b.caffemodel", "a")')) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "import coremltools\ncoremltools.converters.caffe.convert(('a.caffemodel', 'b'))",
            "coremltools.converters has no caffe any more: write coremltools.convert(",
        ),
        (
            "import tensorrt as trt\nwith trt.CaffeParser() as parser: pass",
            "tensorrt has no CaffeParser any more: write tensorrt.OnnxParser",
        ),
        (SCRIPT[1:], "cv2.dnn has no readNetFromCaffe any more: write cv2.dnn.readNetFromONNX("),
    ],
)
def test_doctor(script: str, words: str) -> None:
    """It looks at scripts that do not import caffe, too."""
    folder = Path("project")
    folder.mkdir()
    (folder / "old.py").write_text(script)
    (folder / "other.py").write_text("import cv2\ncv2.imread('a.png')\n")
    (report,) = examine(folder).files
    (finding,) = report.findings
    assert finding.place == "project/old.py:2"
    assert finding.sentence.startswith(words)


def test_a_run_of_tensorrt_s_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", types.ModuleType("tensorrt"))
    assert "has no CaffeParser any more" in hint("import tensorrt\ntensorrt.CaffeParser()")
