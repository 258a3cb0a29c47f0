"""The rewritten graph gives the net's outputs, with each of its changes alone and with all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import BlobError, LayerError, NetError, UnknownName
from caffecompat.inference.torch_graph import half, winograd
from caffecompat.inference.torch_graph.packing import PackedInnerProduct
from caffecompat.inference.torch_graph.weighted import Weighted
from caffecompat.layers._context import BuildOptions
from caffecompat.net.execution.inference import InferenceOptions
from tests.export.passes.models import net_text
from tests.inference.engine_nets import LAYERS, SHAPE, assert_near, built, outputs, simple
from tests.net.nets import CLASSIFIER, net

SWITCHES = ("remove", "fold", "fuse", "merge", "pack", "winograd", "channels_last")
# Of the largest output, in single precision.
BOUND = 1e-5


IN_WINOGRADS_WAY = [
    *("conv, norm, relu", "residual", "weighted sum", "product", "a value that is read twice"),
    *("modules", "lrn", "shared weights", "splits", "clip"),
]


@pytest.mark.parametrize("name", LAYERS)
def test_the_outputs_are_the_same(name: str) -> None:
    subject = built(LAYERS[name])
    wanted = outputs(subject)
    for switch in (*SWITCHES, "all", "none"):
        chosen: dict[str, Any] = {s: switch in (s, "all") for s in SWITCHES}
        subject.optimize("torch", options=InferenceOptions(**chosen, large_pages=False))
        assert_near(outputs(subject), wanted, BOUND)
    subject.optimize(None)
    assert_near(outputs(subject), wanted, 0)


@pytest.mark.parametrize("name", [*IN_WINOGRADS_WAY, "groups", "sides", "depthwise"])
def test_winograds_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "LEAST_TILES", 0)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 0)
    for tiles in (1, 4, 100):
        monkeypatch.setattr(winograd, "TILES_AT_A_TIME", tiles)
        subject = built(LAYERS[name])
        shapes = [SHAPE, (1, 4, 8, 12), (3, 4, 13, 10)]
        wanted = [outputs(subject, shape) for shape in shapes]
        made = subject.optimize("torch", shapes={"data": (1, 4, 8, 12)})
        assert ("Winograd" in str(made)) == (name in IN_WINOGRADS_WAY)
        for shape, values in zip(shapes, wanted, strict=True):
            assert_near(outputs(subject, shape), values, BOUND)


def test_weights_of_inner_products_are_packed_for_several_rows() -> None:
    subject = built(LAYERS["inner products"])
    subject.optimize("torch", shapes={"data": (1, *SHAPE[1:])})
    program: Any = subject.inference_program()
    modules = program._program.module.modules()
    packed = [m for m in modules if isinstance(m, PackedInnerProduct)]
    outputs(subject, (1, *SHAPE[1:]))
    assert [one._packed for one in packed] == [None, None]
    outputs(subject)
    assert all(one._packed is not None for one in packed)


@pytest.mark.parametrize("avx512", [False, True])
def test_the_choice_of_winograds_way(avx512: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    text = 'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{ {} }}'
    large = "num_output: 128 kernel_size: 3"

    def way(settings: str, shape: tuple[int, ...] = (1, 128, 26, 26)) -> bool:
        subject = net(net_text(shape, text.format(settings)))
        return winograd.saves_time(Weighted(subject.layers[1]), shape)

    assert way(large) != avx512
    assert way("num_output: 256 kernel_size: 3", (1, 256, 26, 26))
    assert way("num_output: 256 kernel_size: 3", (9, 256, 10, 10))
    assert not way("num_output: 256 kernel_size: 3", (1, 256, 10, 10))
    assert not way(large, (1, 16, 26, 26))
    for other in ("stride: 2", "dilation: 2", "group: 2"):
        assert not way(f"num_output: 256 kernel_size: 3 {other}", (1, 256, 26, 26))
    assert not way("num_output: 256 kernel_size: 5", (1, 256, 26, 26))


@pytest.mark.parametrize("name", ["residual", "lrn", "groups", "modules", "conv, norm, relu"])
def test_other_input_sizes(name: str) -> None:
    subject = built(LAYERS[name])
    shapes = [(3, 4, 11, 8), SHAPE, (1, 4, 6, 13)]
    wanted = [outputs(subject, shape) for shape in shapes]
    subject.optimize("torch")
    for shape, values in zip(shapes, wanted, strict=True):
        assert_near(outputs(subject, shape), values, BOUND)


@pytest.mark.parametrize("name", ["residual", "lrn", "inner products", "modules", "splits"])
def test_16_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "multiplies_halves", lambda kind, device: True)
    subject = built(LAYERS[name])
    wanted = outputs(subject)
    # Without packing torch's own operators work, which take 16 bits on any processor.
    made = subject.optimize("torch", precision="bf16", pack=False)
    assert made is not None
    assert made.precision == "bf16"
    found = outputs(subject)
    assert_near(found, wanted, 2e-2)
    with pytest.raises(AssertionError):
        assert_near(found, wanted, BOUND)


def test_16_bits_that_the_processor_does_not_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "multiplies_halves", lambda kind, device: False)
    subject = built(LAYERS["residual"])
    wanted = outputs(subject)
    made = subject.optimize("torch", precision="fp16")
    assert made is not None
    assert made.precision == "fp32"
    assert "fp16: this processor has no products of such numbers" in str(made)
    assert_near(outputs(subject), wanted, BOUND)


@pytest.mark.parametrize(
    ("precision", "tiles", "of_fp16", "said"),
    [
        ("fp16", True, False, True),
        ("bf16", True, False, False),
        ("fp16", True, True, False),
        ("fp16", False, False, False),
    ],
)
def test_fp16_beside_amx_for_bf16(
    precision: str, tiles: bool, of_fp16: bool, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "multiplies_halves", lambda kind, device: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_fp16_supported", lambda: of_fp16, raising=False)
    made = built(LAYERS["residual"]).optimize("torch", precision=precision, pack=False)
    assert ("; this processor's AMX is for bf16, which is faster" in str(made)) is said


def test_it_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    subject = built([*LAYERS["conv, norm, relu"], simple("Dropout", "d", "c")])
    # Whether memory moves to large pages depends on where it lies.
    lines = str(subject.optimize("torch", large_pages=False)).splitlines()
    assert lines[0] == "engine torch, fp32"
    assert lines[1] == "removed 1 layers that return their bottom"
    assert lines[2].startswith("folded 2 layers")
    assert lines[3].startswith("fused 1 activations")
    assert lines[-1] == "packed the weights of 1 convolutions and 0 inner products"
    assert capsys.readouterr().err.splitlines() == lines


def test_parameters_and_other_passes_stay() -> None:
    subject = built(LAYERS["conv, norm, relu"])
    before = {name: value.clone() for name, value in subject.state_dict().items()}
    wanted = subject.forward(data=torch.ones(SHAPE), blobs=["c"])["c"].detach()
    subject.optimize("torch")
    after = subject.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(
        subject.forward(data=torch.ones(SHAPE), end="c")["c"].shape and wanted, wanted
    )
    assert subject.optimization is not None


def test_blobs_between_the_layers() -> None:
    layers = LAYERS["residual"]
    subject = built(layers)
    wanted = subject.forward(data=torch.ones(SHAPE), blobs=["a"])["a"].detach()
    subject.optimize("torch")
    subject.forward(data=torch.ones(SHAPE))
    with pytest.raises(BlobError, match="was not kept"):
        subject.blobs["a"].tensor  # noqa: B018
    own = subject.forward(data=torch.ones(SHAPE), blobs=["a"])["a"]
    assert torch.equal(own, wanted)
    subject.optimize("torch", blobs=["a"])
    subject.forward(data=torch.ones(SHAPE))
    assert_near({"a": subject.blobs["a"].tensor}, {"a": wanted}, BOUND)
    with pytest.raises(BlobError, match="'nosuch'"):
        subject.optimize("torch", blobs=["nosuch"])


def test_changed_weights_are_noticed() -> None:
    subject = built(LAYERS["groups"])
    subject.optimize("torch")
    outputs(subject)
    subject.load_weights(subject.to_weights())
    with pytest.raises(NetError, match="call optimize\\(\\) again"):
        outputs(subject)
    subject.optimize("torch")
    outputs(subject)


def test_a_net_with_losses_and_data() -> None:
    text = CLASSIFIER.replace("include { phase: TRAIN }", "").replace("include { phase: TEST }", "")
    subject = net(text)
    given = {
        "data": np.random.default_rng(0).normal(size=(3, 2, 7, 5)).astype(np.float32),
        "label": np.array([1, 0, 5], np.float32),
    }
    wanted, loss = subject.forward(**given), float(subject.loss.detach())
    subject.optimize("torch")
    found = subject.forward(**given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    assert float(subject.loss) == pytest.approx(loss, rel=1e-5)
    assert not subject.loss.requires_grad


def test_wrong_inputs_name_the_layer() -> None:
    subject = built(LAYERS["conv, norm, relu"])
    subject.optimize("torch")
    with pytest.raises(LayerError, match="layer 'c'"):
        subject.forward(data=torch.ones(1, 5, 9, 7))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "fp8"}, "precision is 'fp8'; it must be one of fp32, bf16, fp16, int8"),
        (
            {"shapes": {"data": (2, 6, 9, 7)}},
            "shapes: the net's weights are not for inputs data 2x6x9x7: ",
        ),
        ({"precision": "int8"}, "engine torch has no int8; use engine onnxruntime or openvino"),
        (
            {"shapes": {"data": (0, 6, 9, 7)}},
            "shapes: that of 'data' is (0, 6, 9, 7); give positive",
        ),
        ({"shapes": {"data": "2x6"}}, "shapes: that of 'data' is '2x6'; give positive numbers"),
        ({"shapes": {"image": (1,)}}, "shapes: the net has no input 'image'; its inputs are data"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NetError) as refused:
        built(LAYERS["groups"]).optimize("torch", **options)
    assert sentence in str(refused.value)


def test_engines_that_do_not_exist() -> None:
    with pytest.raises(UnknownName, match="did you mean 'torch'"):
        built(LAYERS["groups"]).optimize("troch")


def test_training_nets_are_refused() -> None:
    with pytest.raises(NetError, match="phase TEST"):
        net(CLASSIFIER, phase="train", options=BuildOptions()).optimize("torch")
