"""Intel's Caffe names libraries in nets, solvers and layers, which changes no value."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import caffecompat
from caffecompat.errors import TextError
from caffecompat.solver.setup.settings import read_settings

NET = """
name: "intel"
engine: "MKLDNN"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" engine: "MKLDNN"
  convolution_param { num_output: 4 kernel_size: 3 engine: MKLDNN
                      weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { engine: MKLDNN } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { engine: MKLDNN } }
layer { name: "pool" type: "Pooling" bottom: "norm" top: "pool"
  pooling_param { kernel_size: 2 engine: MKLDNN } }
layer { name: "sum" type: "Eltwise" bottom: "pool" bottom: "pool" top: "sum"
  eltwise_param { engine: MKL2017 } }
layer { name: "ip" type: "InnerProduct" bottom: "sum" top: "ip"
  inner_product_param { num_output: 3 engine: MKLDNN weight_filler { type: "xavier" } } }
"""
SOLVER = 'engine: "MKLDNN" net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_net_computes_what_it_does_without_engines() -> None:
    Path("intel.prototxt").write_text(NET)
    Path("plain.prototxt").write_text(re.sub(r'engine: "?\w+"?', "", NET))
    data = np.random.default_rng(0).standard_normal((2, 3, 7, 5)).astype(np.float32)
    found, expected = (
        caffecompat.Net(name, phase="test", seed=1).forward(data=data)["ip"]
        for name in ("intel.prototxt", "plain.prototxt")
    )
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found).max() > 0


def test_a_solver_and_a_name_that_is_none() -> None:
    Path("solver.prototxt").write_text(SOLVER)
    assert read_settings("solver.prototxt").message.engine == "MKLDNN"
    Path("net.prototxt").write_text(NET.replace("engine: MKLDNN weight", "engine: MKLDN weight"))
    with pytest.raises(TextError, match=r"engine has no value 'MKLDN'; did you mean 'MKLDNN'\?"):
        caffecompat.Net("net.prototxt")
