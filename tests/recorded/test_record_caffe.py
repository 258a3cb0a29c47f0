"""tools/record_caffe.py against a stand-in for pycaffe, and back through ``verify``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat import Net
from caffecompat.cli.main import main

TOOL = Path(__file__).resolve().parents[2] / "tools" / "record_caffe.py"

NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 2 dim: 5 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
        inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "fc" top: "bn" }
layer { name: "side" type: "TanH" bottom: "bn" top: "side" }
layer { name: "loss" type: "Reduction" bottom: "bn" top: "loss" loss_weight: 0.5
        reduction_param { operation: SUMSQ } }
"""


class OldBlob:
    """pycaffe's blob: numpy arrays ``data`` and ``diff``, the latter holding loss weights."""

    def __init__(self, data: Any, loss_weight: float = 0.0) -> None:
        self._data = data
        self.diff = np.full(tuple(data().shape), loss_weight, np.float32)

    @property
    def data(self) -> np.ndarray:
        array: np.ndarray = self._data().detach().numpy()
        return array


class OldNet:
    """The part of pycaffe's Net that the recorder uses, over ours."""

    def __init__(self, path: str, phase: str) -> None:
        net = self._net = Net(path, phase=phase, seed=3)
        self.inputs, self.outputs, self.layers = net.inputs, net.outputs, net.layers
        weights = net.loss_weights
        self.blobs = {
            name: OldBlob(lambda name=name: net.blobs[name].data, weights.get(name, 0.0))
            for name in net.blobs
        }
        self.params = {
            name: [OldBlob(lambda blob=blob: blob) for blob in blobs]
            for name, blobs in net.params.items()
        }

    def reshape(self) -> None:
        pass

    def _forward(self, start: int, end: int) -> float:
        self._net.forward()
        return float(self._net.loss.detach())

    def _backward(self, start: int, end: int) -> None:
        losses = set(self._net.loss_weights)
        diffs = {n: torch.from_numpy(self.blobs[n].diff) for n in self.outputs if n not in losses}
        self._net.backward(**diffs)
        for name in self.inputs:
            self.blobs[name].diff[...] = self._net.blobs[name].diff.numpy()
        for name, blobs in self._net.params.items():
            for old, blob in zip(self.params[name], blobs, strict=True):
                if blob.grad is not None:
                    old.diff[...] = blob.grad.numpy()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    caffe = SimpleNamespace(Net=OldNet, TRAIN="TRAIN", TEST="TEST", set_mode_cpu=lambda: None)
    monkeypatch.setitem(sys.modules, "caffe", caffe)
    spec = importlib.util.spec_from_file_location("record_caffe", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record(recorder: ModuleType, folder: Path, *options: str) -> Path:
    net = folder / "net.prototxt"
    net.write_text(NET)
    out = folder / "case"
    assert recorder.main([str(net), "--out", str(out), *options]) == 0
    return out.with_suffix(".prototxt")


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_a_recorded_case_agrees(
    recorder: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    case = record(recorder, tmp_path, "--phase", phase, "--backward", "--seed", "7")
    arrays = np.load(case.with_suffix(".npz"))
    assert ("paramafter/bn/0" in arrays) == (phase == "TRAIN")
    assert "topdiff/side" in arrays
    assert "topdiff/loss" not in arrays
    arrays.close()
    capsys.readouterr()
    assert main(["verify", "--recorded", str(case)]) == 0
    assert capsys.readouterr().out.endswith("1 agree, 0 differ\n")


def test_a_wrong_number_is_reported(
    recorder: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = record(recorder, tmp_path)
    with np.load(case.with_suffix(".npz")) as archive:
        arrays = dict(archive)
    arrays["out/fc"] = arrays["out/fc"] + np.float32(0.01)
    np.savez(case.with_suffix(".npz"), **arrays)
    capsys.readouterr()
    assert main(["verify", "--recorded", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS case.prototxt" in out
    assert "worst out/fc: absolute 0.01" in out
    assert "0 agree, 1 differ" in out
    assert main(["verify", "--recorded", str(tmp_path), "--rtol", "0", "--atol", "0.02"]) == 0


def test_without_pycaffe(
    recorder: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "caffe", None)
    assert recorder.main(["net.prototxt", "--out", str(tmp_path / "x")]) == 1
    assert "cannot import pycaffe" in capsys.readouterr().out


def test_verify_without_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--recorded", str(tmp_path)]) == 1
    assert "no recorded case here" in capsys.readouterr().err
    assert main(["verify"]) == 2
