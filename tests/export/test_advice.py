"""What ``caffecompat convert`` and ``deploy`` advise, followed to the letter, works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.export import from_torch
from caffecompat.export.convert.weight_files import write_named_and_read_back
from caffecompat.export.onnx_graph import file as onnx_file
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.weights import load_weights, write_mean
from caffecompat.weights.array_names import NamedArrays
from tests.commands import Run, refused, verb_runner
from tests.export.layouts.torchvision_nets import PAIRS_BY_NAME
from tests.export.models import model_of

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
COLOUR, GRAY = (DATA % f"dim: 1 dim: {channels} dim: 8 dim: 6" for channels in (3, 1))
BODY = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
"""
FROM = "net.caffemodel"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a verb beside weights and their definition; returns its error, "" when it succeeded."""
    monkeypatch.chdir(tmp_path)
    write_net(COLOUR + BODY)
    return verb_runner(capfd)


def write_net(text: str, definition: str = "deploy.prototxt") -> None:
    Path(definition).write_text(text)
    Net(definition, seed=5).save(FROM)


def test_a_form_that_folds_no_preprocessing(run: Run) -> None:
    pytest.importorskip("onnxruntime")
    command = f"convert {FROM} --preprocessing vgg --to npz"
    words = "has no place for it; write onnx, or leave the flag out and prepare images in your"
    assert words in run(f"{command} --fold-preprocessing")
    assert not run(command)
    assert not run(f"convert {FROM} --preprocessing vgg --to onnx --fold-preprocessing")


def test_a_preprocessing_that_is_unknown(run: Run) -> None:
    pytest.importorskip("onnxruntime")
    command = f"convert {FROM} net.onnx --fold-preprocessing"
    words = "cannot become part of the graph; name it, for example with --preprocessing vgg"
    assert words in run(command)
    assert not run(f"{command} --preprocessing vgg")


def test_targets(run: Run) -> None:
    words = "source and target are one file; give another target"
    assert words in run(f"convert {FROM} {FROM} --force")
    assert not run(f"convert {FROM} other.caffemodel")
    words = "other.caffemodel: exists already; --force replaces it, or name another target"
    assert words in run(f"convert {FROM} other.caffemodel")
    assert not run(f"convert {FROM} other.caffemodel --force")
    assert not run(f"convert {FROM} another.caffemodel")
    error = run(f"convert {FROM} there")
    listed = error.partition("end it in one of ")[2].partition(", or give --to")[0].split(", ")
    assert not run(f"convert {FROM} there --to npz")
    assert {".npz", ".pt", ".caffemodel"} <= set(listed)
    for suffix in (".npz", ".pt", ".caffemodel"):
        assert not run(f"convert {FROM} here{suffix}")


def test_means(run: Run) -> None:
    write_mean(np.ones((3, 8, 6), np.float32), "mean.binaryproto")
    command = f"convert {FROM} net.npz --force"
    words = "need a preprocessing that they belong to; name one with --preprocessing (vgg,"
    assert words in run(f"{command} --mean 1,2,3")
    assert not run(f"{command} --mean 1,2,3 --preprocessing vgg")
    command += " --preprocessing digits"
    words = "give it with --mean mean.binaryproto, or as numbers (--mean 104,117,123)"
    assert words in run(command)
    for mean in ("mean.binaryproto", "104,117,123"):
        assert not run(f"{command} --mean {mean}")
    words = "expected numbers separated by commas (104,117,123), or a mean file"
    assert words in run(f"{command} --mean 1;2;3")
    words = "channels; give one value for each channel, or one for all"
    assert words in run(f"{command} --mean 1,2")
    for mean in ("1,2,3", "7"):
        assert not run(f"{command} --mean {mean}")


def test_the_mean_of_gray_images(run: Run) -> None:
    write_net(GRAY + BODY)
    command = f"convert {FROM} net.npz --preprocessing vgg"
    words = "takes images of one channel; give their mean, as in --mean 33.3"
    assert words in run(command)
    assert not run(f"{command} --mean 33.3")


def test_a_mean_file_that_is_missing(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    data = """layer { name: "data" type: "ImageData" top: "data"
      transform_param { mean_file: "none.binaryproto" } image_data_param { source: "x" } }"""
    Path("deploy.prototxt").write_text(data + BODY)
    assert main(["convert", FROM, "a.npz"]) == 0
    out = capfd.readouterr().out
    assert "cannot be used, and the preprocessing has no mean" in out
    assert "; give one with --mean" in out
    assert main(["convert", FROM, "b.npz", "--mean", "1,2,3"]) == 0
    assert '"mean": [1' in Path("b.npz.preprocessing.json").read_text()


def test_weights_of_other_layers(run: Run) -> None:
    Path("other.prototxt").write_text((COLOUR + BODY).replace("conv1", "first"))
    command = "convert net.pt x.npz --force"
    assert not run(f"convert {FROM} net.pt")
    words = "give the definition that they belong to with --model, or rename its layers"
    assert words in run(f"{command} --model other.prototxt")
    assert not run(f"{command} --model deploy.prototxt")
    state = torch.load("net.pt", weights_only=True)
    torch.save({name.replace("conv1", "first"): value for name, value in state.items()}, "net.pt")
    assert not run(f"{command} --model other.prototxt")


def test_weights_of_a_part_of_the_net(run: Run) -> None:
    more = """layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
      convolution_param { num_output: 2 kernel_size: 3 } }"""
    Path("larger.prototxt").write_text(COLOUR + BODY + more)
    command = f"convert {FROM} x.npz --force"
    said = run(f"{command} --model larger.prototxt")
    words = (
        "has no parameters for 'conv2' of larger.prototxt; --model names the definition of these"
    )
    assert words in said
    assert "; without these layers the net is converted with --output conv1" in said
    assert not run(f"{command} --model larger.prototxt --output conv1")
    assert not run(f"{command} --model deploy.prototxt")


def test_a_definition_that_is_missing(run: Run) -> None:
    pytest.importorskip("onnxruntime")
    assert not run(f"convert {FROM} net.npz")
    Path("away").mkdir()
    Path("net.npz").rename("away/net.npz")
    words = "which is neither in this file nor alone beside it; give it with --model deploy.proto"
    assert words in run("convert away/net.npz net.onnx")
    assert not run("convert away/net.npz net.onnx --model deploy.prototxt")


def test_layouts_of_torchvision(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    pair = PAIRS_BY_NAME["squeezenet1_1"]
    write_net(pair.text, "NET.prototxt")
    Path("deploy.prototxt").unlink()
    layout = "--layout torchvision"
    other = 'layer { name: "other" type: "ReLU" bottom: "data" top: "other" }'
    Path("train.prototxt").write_text(pair.text + other)
    words = "the net has 2 outputs, expected one; give the deploy prototxt with --model"
    assert words in run(f"convert {FROM} tv.pt {layout} --model train.prototxt")
    assert not run(f"convert {FROM} tv.pt {layout} --model NET.prototxt")
    # A file of torch itself, which does not say what it is.
    torch.save(dict(torch.load("tv.pt", weights_only=True)), "tv.pt")
    Path("NET.prototxt").rename("deploy.prototxt")
    Path("away").mkdir()
    Path("tv.pt").rename("away/tv.pt")
    capfd.readouterr()
    assert main(["convert", "away/tv.pt", "tv.caffemodel"]) == 0
    assert "add --model NET.prototxt --layout torchvision" in capfd.readouterr().out
    Path("deploy.prototxt").rename("NET.prototxt")
    assert not run(f"convert away/tv.pt a.caffemodel --model NET.prototxt {layout}")
    Path("NET.prototxt").rename("deploy.prototxt")
    words = "names need the net's definition; give it with --model deploy.prototxt"
    assert words in run(f"convert away/tv.pt b.caffemodel {layout}")
    assert not run(f"convert away/tv.pt b.caffemodel {layout} --model deploy.prototxt")
    assert load_weights("b.caffemodel").keys() == load_weights(FROM).keys()


def test_layouts_are_of_state_dicts(tmp_path: Path) -> None:
    named = NamedArrays({"a.weight": np.ones((2, 3), np.float32)})
    words = "a layout is about the names of a state dict; write .pt or .safetensors"
    refused(lambda: write_named_and_read_back(named, tmp_path / "x.npz", "npz", True), words)
    for suffix, name in ((".pt", "torch"), (".safetensors", "safetensors")):
        assert write_named_and_read_back(named, tmp_path / f"x{suffix}", name, True) == 1


def test_a_model_too_large_for_onnx(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 200)
    words = "ONNX files hold 200; write it as .safetensors or .pt2"
    assert words in run(f"convert {FROM} net.onnx")
    for suffix in ("safetensors", "pt2"):
        assert not run(f"convert {FROM} net.{suffix}")


def test_deploy_of_a_net_without_parameters(run: Run) -> None:
    other = 'layer { name: "p" type: "ReLU" bottom: "data" top: "p" }'
    Path("p.prototxt").write_text(COLOUR + other)
    words = "no output depends on a layer with parameters; name the blobs to keep with --output"
    assert words in run("deploy p.prototxt made.prototxt")
    assert not run("deploy p.prototxt made.prototxt --output p")
    assert Net("made.prototxt").outputs == ["p"]


def test_argmax_of_maps() -> None:
    last = """layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
      inner_product_param { num_output: 4 } }
    layer { name: "top" type: "ArgMax" bottom: "ip" top: "top" argmax_param { %s } }"""
    words = "without an axis it looks at all places of a map; give it axis: 1"
    refused(lambda: fully_convolutional(model_of(COLOUR + last % "")), words)
    net = fully_convolutional(model_of(COLOUR + last % "axis: 1")).net()
    net.blobs["data"].reshape(1, 3, 9, 8)
    assert net.forward()["top"].shape == (1, 1, 2, 3)


class Product(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.shape[2:]
        factors = x[:, : self.shape[1]]
        return x * nn.functional.adaptive_avg_pool2d(factors, (height, width))


def test_products_of_torch() -> None:
    x = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    words = "Caffe takes equal shapes, or one factor per image and channel"
    refused(lambda: from_torch(Product(2, 3, 6, 1), x), words)
    for module in (Product(2, 3, 6, 5), Product(2, 3, 1, 1)):
        net = from_torch(module, x).net()
        (found,) = net.forward(**{net.inputs[0]: x.numpy()}).values()
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-6)
