"""The benchmark of a net: what runs backward, layer by layer. Source: `caffe time`."""

from __future__ import annotations

from pathlib import Path

import pytest

import caffecompat
from caffecompat.evaluate import benchmark
from caffecompat.net.execution.stepper import Stepper

NET = """
{force}
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 2 dim: 3 dim: 5 dim: 7 }} }} }}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param {{ kernel_size: 2 }} }}
layer {{ name: "ip1" type: "InnerProduct" bottom: "pool1" top: "ip1"
  inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "frozen" type: "InnerProduct" bottom: "pool1" top: "frozen" {frozen}
  inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
"""
FROZEN = "param { lr_mult: 0 } param { lr_mult: 0 }"


def run_backward(
    monkeypatch: pytest.MonkeyPatch, path: Path, force: str = "", loss: str = ""
) -> tuple[list[str], set[str]]:
    """The layers that one backward pass of the benchmark computes, and blobs with gradients."""
    path.write_text(NET.format(force=force, frozen=FROZEN) + loss)
    net = caffecompat.Net(str(path), seed=1)
    ran: list[str] = []
    steppers: set[Stepper] = set()
    plain = Stepper.backward_layer

    def backward_layer(stepper: Stepper, i: int) -> None:
        built = stepper.net.layers[i]
        if any(top in stepper.gradients for top in built.tops) or any(built.loss_weights):
            ran.append(built.name)
        steppers.add(stepper)
        plain(stepper, i)

    monkeypatch.setattr(Stepper, "backward_layer", backward_layer)
    benchmark.measure(net, 1)
    (stepper,) = steppers
    return ran[len(ran) // 2 :], {version.blob for version in stepper.gradients}


def test_a_net_without_a_loss_runs_backward_for_its_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, blobs = run_backward(monkeypatch, tmp_path / "deploy.prototxt")
    assert ran == ["ip1", "conv1"]
    assert blobs == {"ip1", "conv1"}  # where it begins; no gradient of pool1 or data is computed


def test_force_backward_runs_all_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, blobs = run_backward(monkeypatch, tmp_path / "net.prototxt", force="force_backward: true")
    assert [name for name in ran if "split" not in name] == [
        "frozen",
        "ip1",
        "pool1",
        "conv1",
        "data",
    ]
    assert "data" in blobs


def test_the_data_of_a_net_with_a_loss_gets_no_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = """
        layer { name: "label" type: "DummyData" top: "label" dummy_data_param { shape { dim: 2 } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip1" bottom: "label" top: "loss" }"""
    ran, blobs = run_backward(monkeypatch, tmp_path / "net.prototxt", loss=loss)
    assert [name for name in ran if "split" not in name] == ["loss", "ip1", "pool1", "conv1"]
    assert "pool1" in blobs
    assert not blobs & {"data", "label"}
