"""A layer type of one fork alone tells which definition of another type a net means."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import caffecompat
from caffecompat.doctor.examination import examine
from caffecompat.layers.forks.segmentation.losses.balanced_cross_entropy_loss import (
    BalancedCrossEntropyLoss,
)
from caffecompat.layers.sigmoid_cross_entropy_loss import SigmoidCrossEntropyLoss
from caffecompat.net.definition import read_definition

HED = """
layer { name: "data" type: "ImageLabelmapData" top: "data" top: "label"
  image_data_param { source: "pairs.lst" batch_size: 1 } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 1 kernel_size: 1
                      weight_filler { type: "constant" value: 0.01 } } }
layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "score" bottom: "label" top: "loss" }
"""
NOTE = "its ImageLabelmapData layer tells that the layer types are those of dialect 'hed'"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    edges = np.zeros((6, 5), np.uint8)
    edges[1:3, 2] = 255
    cv2.imwrite("image.png", image)
    cv2.imwrite("edges.png", edges)
    Path("pairs.lst").write_text("image.png edges.png\n")
    Path("hed.prototxt").write_text(HED)


def test_the_loss_of_hed_in_a_net_that_reads_edges() -> None:
    net = caffecompat.Net("hed.prototxt", phase="train")
    found = net.forward(blobs=["score", "label", "loss"])
    assert isinstance(net.layers[-1].layer, BalancedCrossEntropyLoss)
    assert any(note.startswith(NOTE) for note in net.notes)
    score, label = (np.array(found[name].tolist()).ravel() for name in ("score", "label"))
    each = np.log1p(np.exp(-np.abs(score))) + np.maximum(score, 0) - score * label
    edges = label.sum()
    assert edges == 2
    weight = np.where(label == 1, (label.size - edges) / label.size, edges / label.size)
    np.testing.assert_allclose(found["loss"].item(), (each * weight).sum(), rtol=1e-5)


def test_a_message_and_another_dialect() -> None:
    message = read_definition("hed.prototxt").message
    net = caffecompat.Net(message, phase="train")
    assert isinstance(net.layers[-1].layer, BalancedCrossEntropyLoss)
    for source in ("hed.prototxt", message):
        net = caffecompat.Net(source, phase="train", dialect="bvlc")
        assert type(net.layers[-1].layer) is SigmoidCrossEntropyLoss


def test_other_nets_mean_caffe_s_loss() -> None:
    start = HED.index("layer", 10)
    text = HED[start:]
    inputs = """layer { name: "data" type: "Input" top: "data" top: "label"
      input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 }
                    shape { dim: 1 dim: 1 dim: 6 dim: 5 } } }"""
    Path("other.prototxt").write_text(inputs + text)
    net = caffecompat.Net("other.prototxt", phase="train")
    assert type(net.layers[-1].layer) is SigmoidCrossEntropyLoss
    assert not any("dialect" in note for note in net.notes)


def test_the_doctor_names_the_fork() -> None:
    (report,) = (one for one in examine(Path("hed.prototxt")).files if one.kind == "net")
    assert report.dialect.startswith("today's form; HED")
    assert any(finding.sentence.startswith(NOTE) for finding in report.findings)
