"""The quick start's digits: two nets are trained, and evaluated under every protocol."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.evaluate.classification.posteriors import load
from tests.places import REPOSITORY

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")

NET = """
name: "digits"
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 28 scale: 0.0078125 mean_value: 80 }
        image_data_param { source: "images/train.txt" root_folder: "images/" is_color: false
                           batch_size: 32 shuffle: true } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST }
        input_param { shape { dim: 1 dim: 1 dim: 28 dim: 28 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 5 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
        convolution_param { num_output: 16 kernel_size: 3 stride: 2
                            weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "fc3" type: "InnerProduct" bottom: "conv2" top: "fc3"
        inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc3" bottom: "label"
        include { phase: TRAIN } }
layer { name: "prob" type: "Softmax" bottom: "fc3" top: "prob" include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" max_iter: 70 display: 0
random_seed: {seed} snapshot_prefix: "net{seed}" solver_mode: CPU
"""
PREPARATION = ["--preprocessing", "none", "--mean", "80", "--input-scale", "0.0078125"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, and two nets that were trained on them."""
    folder = tmp_path_factory.mktemp("digits")
    script = str(REPOSITORY / "tools" / "quickstart" / "write_digits.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, str(folder / "images")])
        runpy.run_path(script)["main"]()
    # A list of test images in several sizes would add nothing: the digits are all of one size.
    lines = (folder / "images" / "test.txt").read_text().splitlines()[:36]
    (folder / "images" / "some.txt").write_text("\n".join(lines) + "\n")
    (folder / "net.prototxt").write_text(NET)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (1, 2):
            Path(f"solver{seed}.prototxt").write_text(SOLVER.replace("{seed}", str(seed)))
            flags = ["--solver", f"solver{seed}.prototxt", "--no-log"]
            assert main(["train", *flags]) == 0
    return folder


def top_1_errors(capsys: pytest.CaptureFixture[str]) -> list[float]:
    return [float(found) for found in re.findall(r"top-1 error (\S+) %", capsys.readouterr().out)]


def test_every_protocol_and_their_ensemble(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    data = ["--data", "images/some.txt", "--scales", "30,32", "--no-flip", *PREPARATION]
    errors = {}
    for seed in (1, 2):
        weights = ["--weights", f"net{seed}_iter_70.caffemodel", "--model", "net.prototxt"]
        for protocol in ("center", "dense", "multicrop", "both") if seed == 1 else ("both",):
            output = ["--protocol", protocol, "--output", f"{protocol}{seed}.npz"]
            assert main(["evaluate", *weights, *data, *output]) == 0
            (errors[protocol, seed],) = top_1_errors(capsys)
    # A tenth of the classes is right by chance, so an error of 90 %.
    assert max(errors.values()) < 25
    dense, crops, both = (load(f"{name}1.npz") for name in ("dense", "multicrop", "both"))
    np.testing.assert_allclose(both.values, (dense.values + crops.values) / 2, atol=1e-6)
    assert main(["evaluate", "--ensemble", "both1.npz", "both2.npz", "--output", "all.npz"]) == 0
    *members, together = top_1_errors(capsys)
    assert members == [errors["both", 1], errors["both", 2]]
    found = load("all.npz")
    expected = np.mean(found.values.argmax(1) != found.labels)
    assert together == pytest.approx(100 * expected, abs=0.005)
    assert together <= max(members)
