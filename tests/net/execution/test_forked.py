"""Nets in processes that multiprocessing forks: passes end, with the values of the parent's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.programs import run_program

# Large enough that torch shares the work of each layer.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 4 dim: 3 dim: 66 dim: 62 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 32 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 33 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
        inner_product_param { num_output: 50 weight_filler { type: "xavier" } } }
"""

START = """
import os, signal, sys, warnings
import numpy as np
import torch
import caffecompat
warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
torch.set_num_threads(2)
x = np.random.default_rng(3).standard_normal((4, 3, 66, 62)).astype(np.float32)

def forked(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            work()
            code = 0
        finally:
            os._exit(code)
    print("child", os.waitpid(child, 0)[1])
    print("threads", torch.get_num_threads())
"""

PASS = """
net = caffecompat.Net(sys.argv[1], seed=1)
net.optimize({engine!r})
before = net.forward(data=x)["fc"]
def work():
    np.testing.assert_allclose(net.forward(data=x)["fc"], before, rtol=1e-4, atol=1e-5)
"""
ENGINES = ["torch", "onnxruntime", "onnxruntime-parts"]
KINDS = {
    "the net's own program": PASS.format(engine=None),
    **{engine: PASS.format(engine=engine) for engine in ENGINES},
    "a net of the new process": """
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
before = caffecompat.Net(sys.argv[1], seed=1).forward(data=x)["fc"]
def work():
    net = caffecompat.Net(sys.argv[1], seed=1)
    np.testing.assert_allclose(net.forward(data=x)["fc"], before, rtol=1e-4, atol=1e-5)
    net.optimize("torch")
    np.testing.assert_allclose(net.forward(data=x)["fc"], before, rtol=1e-4, atol=1e-5)
""",
    "pycaffe": """
from caffecompat import pycaffe as caffe
net = caffe.Net(sys.argv[1], caffe.TRAIN)
net.blobs["data"].data[...] = x
before = net.forward()["fc"].copy()
net.blobs["fc"].diff[...] = 1
net.backward()
gradient = net.params["conv1"][0].diff.copy()
def work():
    np.testing.assert_allclose(net.forward()["fc"], before, rtol=1e-4, atol=1e-5)
    net.params["conv1"][0].diff[...] = 0
    net.backward()
    found = net.params["conv1"][0].diff
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-4 * abs(gradient).max())
""",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("kind", KINDS)
def test_passes_end_in_a_forked_process(kind: str, tmp_path: Path) -> None:
    """Without one thread there they wait forever for the parent's."""
    if kind in ENGINES[1:]:
        pytest.importorskip("onnx")
        pytest.importorskip(kind.removesuffix("-parts"))
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(NET)
    found = run_program(["-c", f"{START}{KINDS[kind]}\nforked(work)", str(prototxt)])
    assert found.stdout.splitlines()[-2:] == ["child 0", "threads 2"], found.stderr


ANEW = """
def work():
    try:
        net.forward(data=x)
        print("runs", flush=True)
    except caffecompat.CaffeError as error:
        print("refused:", error, flush=True)
    net.optimize({engine!r})
    np.testing.assert_allclose(net.forward(data=x)["fc"], before, rtol=1e-4, atol=1e-5)
forked(work)
"""
OPENVINO = ["openvino", "openvino-parts"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("engine", ["onnxruntime", *OPENVINO])
@pytest.mark.parametrize("other", ["torch", "onnxruntime"])
def test_a_forked_process_can_optimize_anew(engine: str, other: str, tmp_path: Path) -> None:
    """The old program would wait for its threads when it is freed; OpenVINO says what to do."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip(engine.removesuffix("-parts"))
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(NET)
    code = f"{START}{PASS.format(engine=engine)}{ANEW.format(engine=other)}"
    found = run_program(["-c", code, str(prototxt)])
    first, child, _ = found.stdout.splitlines()
    assert child == "child 0", found.stderr
    if engine in OPENVINO:
        assert "refused: OpenVINO was started in process" in first
        assert first.endswith("or optimize the net with engine torch or onnxruntime")
    else:
        assert first == "runs"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_openvino_is_not_started_in_a_fork_of_its_process(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("openvino")
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(NET)
    code = """
net = caffecompat.Net(sys.argv[1], seed=1)
net.optimize("openvino")
other = caffecompat.Net(sys.argv[1], seed=2)
def work():
    try:
        other.optimize("openvino")
    except caffecompat.CaffeError as error:
        print("refused:", error, flush=True)
forked(work)
net.forward(data=x)
"""
    found = run_program(["-c", START + code, str(prototxt)])
    refused, child, _ = found.stdout.splitlines()
    assert child == "child 0", found.stderr
    assert "refused: OpenVINO was started in process" in refused
