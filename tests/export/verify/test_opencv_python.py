"""Caffe's files in the OpenCV of another Python, as OpenCV 4 beside OpenCV 5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import ExportError
from caffecompat.export.engines.base import EngineOptions, open_engine
from caffecompat.export.opencv.repeated import TimedOpenCv
from caffecompat.export.verify.inputs import draw_inputs
from caffecompat.weights import save_weights
from tests.export.models import model_of
from tests.export.verify.other_opencv import FAKE_OPENCV_4, other_python

TEXT = """
layer { name: "data" type: "Input" top: "data" input_param {
  shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 5 } }
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(TEXT)
    save_weights(model_of(TEXT).weights, tmp_path / "net.caffemodel")
    return tmp_path


def test_opencv_of_another_python(files: Path, tmp_path: Path) -> None:
    """OpenCV 4 beside an OpenCV 5; here a module that says that it is one."""
    python = other_python(tmp_path, FAKE_OPENCV_4)
    options = EngineOptions(model=str(files / "net.prototxt"), opencv_python=python)
    engine = open_engine(f"opencv-caffe:{files / 'net.caffemodel'}", options)
    data = np.arange(2 * 3 * 9 * 7, dtype=np.float32).reshape(2, 3, 9, 7)
    found = engine.run({"data": data})
    np.testing.assert_array_equal(found["fc"], data.reshape(2, -1)[:, :5])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("raise ImportError", "this Python has no OpenCV"),
        ("__version__ = '5.0.0'\nclass dnn: pass", "OpenCV 5.0.0 no longer reads Caffe models"),
    ],
)
def test_another_python_without_opencv_4(
    content: str, sentence: str, files: Path, tmp_path: Path
) -> None:
    python = other_python(tmp_path, content + "\nclass error(Exception): pass")
    options = EngineOptions(model=str(files / "net.prototxt"), opencv_python=python)
    engine = open_engine(f"opencv-caffe:{files / 'net.caffemodel'}", options)
    with pytest.raises(ExportError, match=sentence):
        engine.run(draw_inputs(engine, engine, 0))


@pytest.mark.parametrize(("python", "sentence"), [("no/such", "No such file"), ("true", "no Py")])
def test_a_program_that_is_no_python(python: str, sentence: str, files: Path) -> None:
    options = EngineOptions(model=str(files / "net.prototxt"), opencv_python=python)
    engine = open_engine(f"opencv-caffe:{files / 'net.caffemodel'}", options)
    with pytest.raises(ExportError, match=f"^{python}: .*{sentence}"):
        engine.run(draw_inputs(engine, engine, 0))


def test_a_program_that_answers_something_else(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(ExportError, match="program: has no OpenCV"):
        TimedOpenCv(str(program))
