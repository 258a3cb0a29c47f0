"""Calls of a net that are refused: the call that the message advises works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from caffecompat import Net, load_weights
from caffecompat.cli.main import main
from caffecompat.errors import BlobError, NetError, WeightsError
from caffecompat.layers import Layer, register
from tests.commands import refused
from tests.net.nets import CLASSIFIER, batch, net, saved
from tests.solver.small import write_training

IMAGES = batch()["data"]


def test_methods_of_numpy() -> None:
    data = net(CLASSIFIER).blobs["data"].data
    words = "and has no 'astype'; convert it, np.asarray(data), or copy it, np.array(data)"
    refused(lambda: data.astype(np.float64), words, kind=AttributeError)
    for array in (np.asarray(data), np.array(data)):
        assert array.astype(np.float64).shape == (3, 2, 7, 5)


def test_a_blob_that_was_overwritten() -> None:
    small = net(CLASSIFIER, phase="train")
    small.forward(**batch())
    small.blobs["pool1"].data[...] = 0
    words = "needs its old value; run forward() again before backward()"
    refused(small.backward, words, kind=NetError)
    small.forward()
    small.backward()
    assert small.params["conv1"][0].grad is not None


class TestValuesThatWereNotKept:
    def test_of_a_training_pass(self, tmp_path: Path) -> None:
        write_training(tmp_path)
        built = Net(tmp_path / "net.prototxt", phase="train")
        self.check(built, "conv", lambda: built.run(0))

    def test_of_an_optimized_net(self) -> None:
        built = net(CLASSIFIER)
        built.optimize("torch")
        self.check(built, "pool1", lambda: built.forward(data=IMAGES))

    @staticmethod
    def check(built: Net, name: str, run: Callable[[], object]) -> None:
        run()
        words = (
            f"blob '{name}' was not kept by the last training pass, or by the last pass of an "
            f"optimized net; set net.observe = True before net.run, or call net.forward("
            f"blobs=['{name}'])"
        )
        refused(lambda: built.blobs[name].data, words, kind=BlobError)
        assert built.forward(blobs=[name])[name].any()
        built.observe = True
        built.run(1)
        assert np.any(np.asarray(built.blobs[name].data))


def test_devices() -> None:
    words = "unknown device 'gpu0'; use 'cpu', 'cuda' or 'cuda:N'"
    refused(lambda: net(CLASSIFIER, device="gpu0"), words, kind=NetError)
    usable = ["cpu", "cuda", "cuda:0"] if torch.cuda.is_available() else ["cpu"]
    for device in usable:
        assert "prob" in net(CLASSIFIER, device=device).forward(data=IMAGES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_no_gpu() -> None:
    words = "finds no CUDA device here; use the CPU, or install a CUDA build of torch"
    refused(lambda: net(CLASSIFIER, device="cuda:1"), words, kind=NetError)
    assert net(CLASSIFIER, device="cpu").forward(data=IMAGES)["prob"].shape == (3, 6)


def test_optimizing_a_net_that_trains() -> None:
    words = "for nets in phase TEST; build the net with phase='test', or leave it out"
    refused(net(CLASSIFIER, phase="train").optimize, words, kind=NetError)
    for options in ({"phase": "test"}, {}):
        built = net(CLASSIFIER, **options)
        built.optimize("torch")
        assert built.forward(data=IMAGES)["prob"].shape == (3, 6)


@pytest.mark.parametrize("assign", [None, False, True])
def test_parameters_that_changed_after_optimize(assign: bool | None) -> None:
    built = net(CLASSIFIER, seed=3)
    built.optimize("torch")
    if assign is None:
        with torch.no_grad():
            built.params["fc"][0].zero_()
    else:
        zeros = {name: torch.zeros_like(value) for name, value in built.state_dict().items()}
        built.load_state_dict(zeros, assign=assign)
    words = "the net's parameters have changed since optimize(), which has copied them; call opti"
    refused(lambda: built.forward(data=IMAGES), words, kind=NetError)
    built.optimize("torch")
    np.testing.assert_allclose(built.forward(data=IMAGES)["prob"], 1 / 6, rtol=1e-6)


@pytest.mark.usefixtures("own_types")
def test_int8_of_a_net_that_only_torch_runs() -> None:
    pytest.importorskip("onnxruntime")

    @register("Halved")
    class Halved(Layer):
        def forward(self, x: Tensor) -> Tensor:
            return x / 2

    text = CLASSIFIER.replace('type: "ReLU" bottom: "conv1" top: "conv1"', HALVED)
    built = net(text, seed=1)
    expected = np.asarray(built.forward(data=IMAGES)["prob"])
    words = "torch, which could, has no int8: use precision fp32, or bf16 or fp16 with engine torch"
    batches = [{"data": IMAGES}]
    refused(
        lambda: built.optimize("onnxruntime", precision="int8", calibration=batches),
        words,
        kind=NetError,
    )
    for engine, precision, bound in (
        ("onnxruntime", "fp32", 1e-5),
        ("torch", "bf16", 0.02),
        ("torch", "fp16", 0.02),
    ):
        made = built.optimize(engine, precision=precision)
        assert made is not None
        assert made.engine == "torch"
        found = built.forward(data=IMAGES)["prob"]
        np.testing.assert_allclose(found, expected, atol=bound)


HALVED = 'type: "Halved" bottom: "conv1" top: "conv1"'


class TestNothingToRunBackward:
    """The message names four things; each net lacks one of them."""

    WORDS = (
        "nothing to run backward from: call forward() first, in a net with a loss (or pass "
        "gradients of its outputs) and with something to learn (or force_backward: true)"
    )

    def test_no_forward_pass(self) -> None:
        small = net(CLASSIFIER, phase="train")
        refused(small.backward, self.WORDS, kind=NetError)
        small.forward(**batch())
        small.backward()
        assert small.params["fc"][0].grad is not None

    def test_no_loss(self) -> None:
        small = net(CLASSIFIER)
        small.forward(data=IMAGES)
        refused(small.backward, self.WORDS, kind=NetError)
        small.backward(prob=np.eye(3, 6, dtype=np.float32))
        assert small.params["fc"][0].grad is not None

    def test_nothing_to_learn(self) -> None:
        text = """layer { name: "x" type: "Input" top: "x" top: "t" input_param {
          shape { dim: 2 dim: 3 } shape { dim: 2 } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "t" top: "loss" }"""
        small = net(text, phase="train")
        small.forward()
        refused(small.backward, self.WORDS, kind=NetError)
        forced = net("force_backward: true\n" + text, phase="train")
        forced.forward()
        forced.backward()
        assert np.any(np.asarray(forced.blobs["x"].diff))


def test_backward_twice() -> None:
    small = net(CLASSIFIER, phase="train")
    small.forward(**batch())
    small.backward()
    refused(
        small.backward,
        "backward() has run for this pass already; call forward() first",
        kind=NetError,
    )
    small.forward()
    small.backward()


class TestWeights:
    @pytest.fixture
    def files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Weights of the net, and those of one whose layers have other names."""
        monkeypatch.chdir(tmp_path)
        net(CLASSIFIER, seed=4).save(saved(tmp_path, CLASSIFIER).with_name("net.caffemodel"))
        net(renamed(CLASSIFIER), seed=5).save("other.caffemodel")

    @pytest.mark.usefixtures("files")
    def test_by_position(self) -> None:
        words = "give the phase once, and weights by name: Net(file, weights=..., phase=...)"
        refused(lambda: Net("net.prototxt", 1, "net.caffemodel"), words, kind=NetError)
        built = Net("net.prototxt", weights="net.caffemodel", phase="train")
        assert (built.phase, same(built, "net.caffemodel")) == ("TRAIN", True)

    @pytest.mark.usefixtures("files")
    def test_a_state_dict(self) -> None:
        state = Net("net.prototxt", weights="net.caffemodel").state_dict()
        words = (
            "weights are a OrderedDict, expected the path of a file, or the Weights that "
            "caffecompat.load_weights returns; a state dict is for load_state_dict"
        )
        built = Net("net.prototxt")
        refused(lambda: built.load_weights(state), words, kind=WeightsError)  # type: ignore[arg-type]
        for load in (
            lambda one: one.load_state_dict(state),
            lambda one: one.load_weights("net.caffemodel"),
            lambda one: one.load_weights(load_weights("net.caffemodel")),
        ):
            built = Net("net.prototxt", seed=8)
            assert not same(built, "net.caffemodel")
            load(built)
            assert same(built, "net.caffemodel")

    @pytest.mark.usefixtures("files")
    def test_names_that_do_not_agree(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = (
            "the names do not agree, the net has 'conv1', 'fc', the file has 'first', 'last'; give "
            "the weights of this net, or rename the layers; --lenient (lenient=True) goes on with "
            "the values that the net has"
        )
        refused(lambda: Net("net.prototxt", weights="other.caffemodel"), words, kind=WeightsError)
        assert same(Net("net.prototxt", weights="net.caffemodel"), "net.caffemodel")
        assert net(renamed(CLASSIFIER), weights="other.caffemodel")
        kept = Net("net.prototxt", weights="other.caffemodel", lenient=True, seed=4)
        assert same(kept, "net.caffemodel")
        command = ["test", "--model", "net.prototxt", "--iterations", "1", "--weights"]
        assert main([*command, "other.caffemodel"]) == 1
        assert words in capsys.readouterr().err
        assert main([*command, "net.caffemodel"]) == 0
        assert main([*command, "other.caffemodel", "--lenient"]) == 0

    @pytest.mark.usefixtures("files")
    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("num_output: 6", "num_output: 7", "To learn it afresh instead of loading it, "),
            (
                "inner_product_param { num_output: 6",
                "inner_product_param { num_output: 6 bias_term: false",
                "the file has 2 parameter blobs, the net's layer has 1. To learn the layer afresh "
                "instead of loading it, ",
            ),
        ],
    )
    def test_a_layer_that_is_learned_afresh(
        self, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words += "rename the layer, or pass over it with on_mismatch='skip' (--on-mismatch skip)"
        text = CLASSIFIER.replace(old, new)
        refused(lambda: net(text, weights="net.caffemodel"), words, kind=WeightsError)
        built = net(text.replace('name: "fc"', 'name: "fc7"'), weights="net.caffemodel")
        report = net(text).load_weights("net.caffemodel", on_mismatch="skip")
        assert report.loaded == ["conv1"]
        wanted = load_weights("net.caffemodel")["conv1"].blobs[0]
        np.testing.assert_array_equal(built.params["conv1"][0].detach(), wanted)
        Path("changed.prototxt").write_text(text)
        command = ["test", "--model", "changed.prototxt", "--weights", "net.caffemodel"]
        command += ["--iterations", "1"]
        assert main(command) == 1
        assert words in capsys.readouterr().err
        assert main([*command, "--on-mismatch", "skip"]) == 0


def renamed(text: str) -> str:
    return text.replace('name: "conv1"', 'name: "first"').replace('name: "fc"', 'name: "last"')


def same(built: Any, file: str) -> bool:
    stored = load_weights(file)
    return all(
        torch.equal(ours.detach(), torch.from_numpy(np.array(theirs)))
        for name in ("conv1", "fc")
        for ours, theirs in zip(built.params[name], stored[name].blobs, strict=True)
    )
