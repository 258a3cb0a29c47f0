"""Caffemodels that nets write: byte for byte those of BVLC Caffe 1.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat import Net
from caffecompat import pycaffe as caffe
from caffecompat.proto import schema

# A layer with a phase of its own, one without learned parameters, an automatic split, a loss.
TEXT = """name: "small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 2 } phase: TEST
  inner_product_param { num_output: 1 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "y" include { phase: TRAIN } }
"""
# Written by BVLC Caffe 1.0.
RECORDED = (
    b"\n\x05small"
    b'\xa2\x06\x18\n\x01x\x12\x05Input"\x01xP\x00\xfa\x08\x06\n\x04\n\x02\x02\x02'
    b'\xa2\x06V\n\x02ip\x12\x0cInnerProduct\x1a\x01x"\x01y2\x05\x1d\x00\x00\x00@'
    b":\x10*\x08\x00\x00\x00?\x00\x00\x00?:\x04\n\x02\x01\x02"
    b":\x0b*\x04\x00\x00\x00\x00:\x03\n\x01\x01"
    b"P\x01\xaa\x07\x13\x08\x01\x1a\x0f\n\x08constant\x15\x00\x00\x00?"
    b'\xa2\x06S\n\x02bn\x12\tBatchNorm\x1a\x01y"\x01y' + 3 * b"2\x05\x1d\x00\x00\x00\x00"
    b"" + 3 * b":\x0b*\x04\x00\x00\x00\x00:\x03\n\x01\x01" + b"P\x00"
    b'\xa2\x06:\n\x0cy_bn_0_split\x12\x05Split\x1a\x01y"\x0ey_bn_0_split_0"\x0ey_bn_0_split_1P\x00'
    b"\xa2\x06@\n\x04loss\x12\rEuclideanLoss\x1a\x0ey_bn_0_split_0\x1a\x0ey_bn_0_split_1"
    b"-\x00\x00\x80?B\x02\x08\x00P\x00"
)


@pytest.mark.parametrize("kind", ["Net", "pycaffe"])
def test_the_bytes_of_a_net_are_those_of_caffe(tmp_path: Path, kind: str) -> None:
    definition, path = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    definition.write_text(TEXT)
    if kind == "Net":
        Net(definition, phase="TRAIN").save(path)
    else:
        caffe.Net(str(definition), caffe.TRAIN).save(str(path))
    assert path.read_bytes() == RECORDED


def test_weights_that_are_moved_to_a_split_stand_there(tmp_path: Path) -> None:
    definition, path = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    definition.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'
        'layer { name: "a" type: "AbsVal" bottom: "x" top: "a" loss_weight: 3 }\n'
        'layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { power: 2 } }\n'
        'layer { name: "h" type: "HingeLoss" bottom: "b" bottom: "b" }\n'
    )
    Net(definition, phase="TEST").save(path)
    net = schema.new("NetParameter")
    net.ParseFromString(path.read_bytes())
    weights = {layer.name: list(layer.loss_weight) for layer in net.layer}
    assert weights == {
        "x": [],
        "a": [],
        "a_a_0_split": [3.0, 0.0],
        "b": [],
        "b_b_0_split": [],
        "h": [1.0],
    }
    power = next(layer for layer in net.layer if layer.name == "b")
    assert power.power_param.power == 2
    # The loss has no top in the definition, and the automatic one is not written.
    assert list(net.layer[-1].top) == []
