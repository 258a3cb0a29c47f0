"""What ``import caffe`` gives beside nets and solvers."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from caffecompat import CaffeError
from caffecompat import pycaffe as caffe
from caffecompat.pycaffe import mode
from caffecompat.reporting.glog import LOGGER
from tests.solver.log.caffe_log import Lines


@pytest.fixture(autouse=True)
def fresh_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode, "_mode", replace(mode._mode))


def test_constants() -> None:
    assert (caffe.TRAIN, caffe.TEST, caffe.__version__) == (0, 1, "1.0.0")
    assert {"Data", "Convolution", "InnerProduct", "Python"} <= set(caffe.layer_type_list())
    assert "Net" in dir(caffe)
    with pytest.raises(AttributeError, match="module 'caffe' has no attribute 'Nett'"):
        _ = caffe.Nett


def test_modes() -> None:
    caffe.set_mode_cpu()
    caffe.set_device(0)
    assert mode.current_device() == torch.device("cpu")
    with pytest.raises(TypeError, match="numbered from 0"):
        caffe.set_device(-1)
    if torch.cuda.is_available():
        caffe.set_mode_gpu()
        assert mode.current_device() == torch.device("cuda:0")
        return
    remedy = (
        r"for the CPU write caffe\.set_mode_cpu\(\) instead, "
        r"or run 'python -m caffecompat\.run --cpu script\.py'"
    )
    with pytest.raises(CaffeError, match=remedy):
        caffe.set_mode_gpu()
    assert mode.current_device() == torch.device("cpu")
    mode.stay_on_cpu()
    caffe.set_mode_gpu()
    caffe.set_device(3)
    assert mode.current_device() == torch.device("cpu")


def test_several_processes() -> None:
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    caffe.set_multiprocess(True)
    assert (caffe.solver_count(), caffe.solver_rank()) == (2, 1)
    assert not caffe.has_nccl()
    for call in (caffe.NCCL, caffe.NCCL.new_uid):
        with pytest.raises(RuntimeError, match=r"train --solver .* --gpu 0,1"):
            call()


def test_timer() -> None:
    timer = caffe.Timer()
    assert timer.seconds == 0
    timer.start()
    time.sleep(0.002)
    running = timer.ms
    timer.stop()
    stopped = timer.us
    assert 2 <= running <= stopped / 1000
    assert timer.us == stopped == timer.seconds * 1e6


def test_log(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    handlers, level = list(LOGGER.handlers), LOGGER.level
    try:
        caffe.log("before")
        caffe.init_log(0)
        caffe.init_log(0)
        caffe.log("hello")
        caffe.init_log(2)
        caffe.log("too low")
        caffe.init_log(0)
        caffe.set_logging_disabled()
        LOGGER.error("disabled")
    finally:
        LOGGER.handlers[:] = handlers
        LOGGER.setLevel(level)
    error = capsys.readouterr().err
    assert error.count("] hello\n") == 1
    assert "before" not in error
    assert "too low" not in error
    assert "disabled" not in error
    assert lines.containing("before")
    assert logging.getLogger("caffecompat") is LOGGER


def test_the_messages_need_no_import_of_their_own() -> None:
    script = "import caffecompat.pycaffe as caffe; print(caffe.proto.caffe_pb2.Datum(label=3))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "label: 3\n\n", done.stderr


def test_layer_types_are_those_of_definitions() -> None:
    types = caffe.layer_type_list()
    assert "BN" in types  # which several forks define
    assert all("(" not in name for name in types)
    assert types == sorted(set(types))


def test_names_of_the_compiled_module() -> None:
    """Python layers import them, as those of triplet losses do."""
    names = "BoolVec DtypeVec IntVec LayerParameter LayerVec NetVec RawBlobVec SolverParameter"
    compiled = caffe._caffe
    assert {*names.split(), "StringVec"} <= set(compiled.__all__)
    message = compiled.LayerParameter(name="a", type="ReLU")
    assert type(message) is caffe.proto.caffe_pb2.LayerParameter
    assert isinstance(["a"], compiled.StringVec)
