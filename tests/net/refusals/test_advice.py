"""Refused definitions of nets: what the message advises makes the net build and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.errors import CaffeError, DataError, LayerError, NetError
from caffecompat.layers import Layer, at_least, exactly, register
from caffecompat.net.blobs.inputs import Inputs
from caffecompat.proto import schema
from tests.net.nets import net, saved
from tests.solver.small import write_training

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'
LABEL = 'layer { name: "l" type: "Input" top: "label" input_param { shape { dim: 2 } } }\n'
INNER = 'layer { name: "one" type: "InnerProduct" bottom: "x" top: "y" inner_product_param '
POOLING = """layer { name: "im" type: "Input" top: "i" input_param { shape {
  dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "one" type: "Pooling" bottom: "i" top: "y" pooling_param { kernel_size: 2 %s } }"""
HINGE = LABEL + 'layer { name: "one" type: "HingeLoss" bottom: "x" bottom: "label" top: "y" %s }'


class Case:
    """A layer that is refused, the message, and the layer as each of its remedies changes it."""

    def __init__(self, bad: str, words: str, *good: str, **options: Any) -> None:
        self.bad, self.words, self.good, self.options = bad, words, good, options

    def __str__(self) -> str:
        return self.words


def inner(text: str, own: str = "") -> str:
    return f"{INNER} {{ num_output: 2 }} {own} {text} }}"


def embedded(shape: str, values: int = 6) -> str:
    data = "".join(f"data: {value} " for value in range(values))
    return (
        'layer { name: "one" type: "Scale" bottom: "x" top: "y" scale_param { axis: 0 '
        f"num_axes: 2 }} blobs {{ {shape} {data} }} }}"
    )


CASES = [
    Case(
        inner("propagate_down: true propagate_down: false"),
        "has 2 propagate_down values for 1 bottom(s); give none, or one for each bottom",
        inner(""),
        inner("propagate_down: false"),
    ),
    Case(
        HINGE % "loss_weight: 1 loss_weight: 2",
        "has 2 loss_weight values for 1 top(s); give none, or one for each top",
        HINGE % "",
        HINGE % "loss_weight: 2",
    ),
    Case(
        POOLING % "temporal_stride: 2",
        "pooling_param.temporal_stride: from the Caffe of C3D, where it is the stride along time; "
        "not supported by this layer type; remove it, or ignore it with lenient=True (--lenient)",
        POOLING % "",
    ),
    Case(
        HINGE % "loss_param { normalization: PRE_FIXED }",
        "not supported by this layer type; remove it, or give another value",
        HINGE % "loss_param { }",
        HINGE % "loss_param { normalization: FULL }",
    ),
    Case(
        inner("").replace('top: "y"', 'top: "x"'),
        "cannot work in place on 'x'; give its top a name of its own",
        inner(""),
    ),
    Case(
        embedded("shape { dim: 2 dim: 2 }"),
        "embedded blob 0 holds 6 values, but its shape is 2x2; write shape { dim: ... } with the "
        "extents of its values",
        embedded("shape { dim: 2 dim: 3 }"),
    ),
    Case(
        embedded(""),
        "its shape is missing (which means one value); write shape { dim: ... }",
        embedded("shape { dim: 2 dim: 3 }"),
    ),
    Case(
        embedded("shape { dim: 3 dim: 2 }"),
        "embedded blob 0 is 3x2, but the layer's weight is 2x3; give it that shape",
        embedded("shape { dim: 2 dim: 3 }"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_refusal_advises_runs(case: Case) -> None:
    with pytest.raises(LayerError) as caught:
        net(INPUT + case.bad, phase="train")
    assert case.words in str(caught.value)
    assert str(caught.value).startswith("layer 'one' ("), caught.value
    for good in case.good:
        built = net(INPUT + good, phase="train")
        built.forward()
        assert torch.isfinite(built.blobs["y"].data).all()


def test_a_field_of_a_fork_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the message says, in Python and on the command line."""
    text = POOLING % "temporal_stride: 2"
    built = net(text, lenient=True)
    assert built.forward()["y"].shape == (1, 2, 3, 3)
    command = ["summary", str(saved(tmp_path, text))]
    assert main(command) == 1
    assert "or ignore it with lenient=True (--lenient)" in capsys.readouterr().err
    assert main([*command, "--lenient"]) == 0


def test_a_shared_parameter_of_another_shape() -> None:
    """One layer has 4 outputs of 3 inputs, the other one 3 outputs of 4 inputs."""
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" %s }
  inner_product_param { num_output: 4 bias_term: false weight_filler { value: 1 } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" %s }
  inner_product_param { num_output: 3 bias_term: false } }"""
    words = r"4x3; here it is 3x4 \(share_mode: PERMISSIVE needs only equal counts\)"
    with pytest.raises(LayerError, match=f"shares parameter 'w' with layer 'a', .* {words}"):
        net(text % ("", ""))
    built = net(text % ("", "share_mode: PERMISSIVE"))
    assert built.forward(x=torch.ones(2, 3))["b"].tolist() == [[12] * 3] * 2


def test_layers_of_one_name() -> None:
    definition = schema.new("NetParameter")
    for index in range(1_001):
        layer = definition.layer.add(name="same", type="Input", top=[f"blob{index}"])
        layer.input_param.shape.add(dim=[2])
    with pytest.raises(NetError, match="more than 1,000 layers have this name; give each its own"):
        Net(definition)
    for index, layer in enumerate(definition.layer):
        layer.name = f"layer{index}"
    assert len(Net(definition).forward()) == 1_001


def test_a_stated_shape(tmp_path: Path) -> None:
    text = f"""layer {{ name: "data" type: "Data" top: "x" data_param {{ batch_size: 4
      source: "{tmp_path}/none" }} }}"""
    with pytest.raises(NetError, match="the stated shape of 'x' is 3x0x5; give sizes"):
        net(text, shapes_only=True, shapes={"x": (3, 0, 5)})
    built = net(text, shapes_only=True, shapes={"x": (3, 6, 5)})
    assert built.blobs["x"].shape == (4, 3, 6, 5)


def test_debug_info_of_a_net(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path)
    definition = tmp_path / "net.prototxt"
    text = definition.read_text()
    definition.write_text("debug_info: true\n" + text)
    words = "debug_info of a net has no effect here; set it in the solver"
    assert words in Net(definition, phase="train").notes
    definition.write_text(text)
    assert words not in Net(definition, phase="train").notes
    path.write_text(path.read_text() + "\ndebug_info: true\n")
    assert main(["train", "--solver", str(path)]) == 0
    assert "[Forward] Layer conv, top blob conv data:" in capsys.readouterr().err


@pytest.mark.usefixtures("own_types")
def test_tops_that_the_layer_does_not_compute() -> None:
    @register("OneTop")
    class OneTop(Layer):
        bottoms, tops = exactly(1), at_least(1)

        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    text = INPUT + 'layer { name: "one" type: "OneTop" bottom: "x" top: "y" %s }'
    with pytest.raises(LayerError, match="has 2 tops, but the layer computes 1; remove the rest"):
        net(text % 'top: "z"')
    assert net(text % "").forward()["y"].tolist() == [[1, 1, 1]] * 2


@pytest.mark.usefixtures("own_types")
def test_a_type_that_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shown file, with a formula, imported before the net is built."""
    text = INPUT + 'layer { name: "one" type: "CubedHere" bottom: "x" top: "y" }'
    with pytest.raises(CaffeError) as caught:
        net(text)
    words = "write its formula into this file and import it before the net is built"
    told, _, code = str(caught.value).partition(":\n\n")
    assert told.endswith(f"{words} (docs/layers.md)")
    (tmp_path / "cubed_here.py").write_text(code.replace("return x", "return x**3"))
    monkeypatch.syspath_prepend(tmp_path)
    __import__("cubed_here")
    assert net(text).forward(x=torch.full((2, 3), 2.0))["y"].tolist() == [[8, 8, 8]] * 2


def test_a_label_that_would_fail_in_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU. One remedy changes the data, the other the net."""
    monkeypatch.setattr(Inputs, "_on_gpu", True)
    text = """
layer {{ name: "data" type: "DummyData" top: "x" top: "label" dummy_data_param {{
  shape {{ dim: 2 dim: {classes} }} shape {{ dim: 2 }}
  data_filler {{ value: 0 }} data_filler {{ value: {label} }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "loss" }}"""
    words = "label 3 of 'label', expected 0 to 2, for 3 classes; change the data, or the net"
    with pytest.raises(DataError, match=words):
        run_with_labels(text.format(classes=3, label=3), 3)
    for classes, label in ((3, 2), (4, 3)):
        loss = run_with_labels(text.format(classes=classes, label=label), label)
        assert loss == pytest.approx(np.log(classes))


def run_with_labels(text: str, label: int) -> float:
    """The loss of a net with data that go the way to a GPU."""
    built = net(text, phase="train")
    source = built.layers[0].source
    assert source is not None
    scores = np.zeros(built.blobs["x"].shape, np.float32)
    source.read_for_gpu = lambda index: [scores, np.full(2, label, np.float32)]  # type: ignore
    return float(built.run(0).loss)


def test_blobs_that_no_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is memory for 400 values, and no smaller batch."""
    whole = torch.zeros

    def limited(shape: tuple[int, ...], **options: Any) -> Tensor:
        if np.prod(shape) > 400:
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 3200 bytes"
            )
        return whole(shape, **options)

    monkeypatch.setattr("caffecompat.net.allocation.torch.zeros", limited)
    with pytest.raises(LayerError, match=r"out of memory: .*; make the net's blobs smaller$"):
        net(POOLING.replace("dim: 4", "dim: 20") % "").forward()
    assert net(POOLING % "").forward()["y"].shape == (1, 2, 3, 3)
