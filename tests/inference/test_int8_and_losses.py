"""int8 of nets whose losses and measures ONNX lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffecompat.errors import NetError
from tests.inference.engine_nets import conv
from tests.net.nets import net

TRAIN_VAL = [
    'name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { '
    'shape { dim: [3, 2, 7, 5] } shape { dim: 3 } data_filler { type: "constant" value: 0.7 } '
    'data_filler { type: "constant" value: 1 } }',
    conv("c", "data", 'weight_filler { type: "xavier" }'),
    'name: "fc" type: "InnerProduct" bottom: "c" top: "fc" '
    'inner_product_param { num_output: 6 weight_filler { type: "xavier" } }',
    'name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 2',
    'name: "top" type: "Accuracy" bottom: "fc" bottom: "label" top: "top" include { stage: "s" }',
    'name: "one" type: "Accuracy" bottom: "fc" bottom: "label" top: "one" include { phase: TEST }',
]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("given", [True, False])
def test_int8_of_a_net_with_a_loss(engine: str, given: bool) -> None:
    """The layers that ONNX lacks run in torch, on what the engine computes."""
    pytest.importorskip(engine)
    pytest.importorskip("onnxruntime")
    subject = net("\n".join(f"layer {{ {layer} }}" for layer in TRAIN_VAL))
    generator = np.random.default_rng(5)
    images = [{"data": generator.normal(size=(3, 2, 7, 5)).astype(np.float32)} for _ in range(3)]
    with torch.no_grad():
        wanted = subject.forward()
    made = subject.optimize(engine, precision="int8", calibration=images if given else 3)
    assert made is not None
    assert (made.engine, made.precision) == (engine, "int8")
    assert made.lines[-1] == (
        "torch runs 'loss' (SoftmaxWithLoss), 'one' (Accuracy) in fp32, which ONNX has no "
        "operators for"
    )
    found = subject.forward()
    assert set(found) == set(wanted) == {"loss", "one"}
    np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=0.05)
    assert found["loss"] != wanted["loss"]
    assert float(subject.run(0).loss) == pytest.approx(2 * float(subject.forward()["loss"]))


def test_int8_of_a_net_with_parameters_behind_what_onnx_lacks() -> None:
    pytest.importorskip("onnxruntime")
    layers = [
        conv("c", "data", 'weight_filler { type: "xavier" }'),
        'name: "f" type: "Filter" bottom: "c" bottom: "chosen" top: "f"',
        conv("d", "f"),
    ]
    subject = net(
        'input: "data" input_shape { dim: [3, 2, 7, 5] } input: "chosen" '
        "input_shape { dim: 3 }" + "".join(f"layer {{ {layer} }}" for layer in layers)
    )
    with pytest.raises(NetError, match="ONNX has no operators for layer 'f'"):
        subject.optimize(
            "onnxruntime", precision="int8", calibration=[{"data": np.zeros((3, 2, 7, 5))}]
        )
