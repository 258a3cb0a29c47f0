"""What verbs that read models advise, followed to the letter: the flag or the other verb helps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.codec.images import encode_image
from caffecompat.errors import NetError
from caffecompat.evaluate.images.inference_net import InputSize, input_size
from caffecompat.export.source import read_source
from caffecompat.weights import load_weights

TRAIN_VAL = """
name: "small"
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 6 } data_param { source: "no_lmdb" batch_size: 2 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training definition and weights in a folder of their own, beside no definition."""
    monkeypatch.chdir(tmp_path)
    Path("train val.prototxt").write_text(TRAIN_VAL)
    assert main(["deploy", "train val.prototxt", "deploy.prototxt"]) == 0
    Path("weights").mkdir()
    net = Net("deploy.prototxt", seed=3)
    net.save("weights/w.pt")
    net.save("weights/w.npz")
    net.save("weights/w.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    Path("image.png").write_bytes(encode_image(pixels, "png"))
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main(words) == 1
    return capsys.readouterr().err.strip()


def test_a_definition_and_weights_are_compared_by_inspect(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, ["diff", "train val.prototxt", "weights/w.pt"])
    _, command = error.split("to see whether these fit: caffecompat ")
    assert main(shlex.split(command)) == 0
    assert "2 of 2 layers" in capsys.readouterr().out


def test_a_training_net_takes_images_after_deploy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = read_source(Path("weights/w.pt"), "train val.prototxt").model("a test")
    with pytest.raises(NetError) as caught:
        input_size(model)
    assert "caffecompat deploy makes a deploy net of a train_val net" in str(caught.value)
    assert main(["deploy", "train val.prototxt", "made.prototxt"]) == 0
    model = read_source(Path("weights/w.pt"), "made.prototxt").model("a test")
    assert input_size(model) == InputSize(3, 6, 6)
    words = ["classify", "image.png", "--weights", "weights/w.pt", "--mean", "110", "--json"]
    capsys.readouterr()
    assert main([*words, "--model", "made.prototxt"]) == 0
    found = capsys.readouterr().out
    assert main([*words, "--model", "train val.prototxt"]) == 0
    assert capsys.readouterr().out == found


DATA_TEST = """layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { crop_size: 6 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.02 }
  image_data_param { source: "list.txt" batch_size: 1 new_height: 7 new_width: 11 } }"""


def test_a_training_net_classifies_as_its_own_data_layer_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = re.sub(r'layer { name: "data".*?backend: LMDB } }', DATA_TEST, TRAIN_VAL, flags=re.S)
    Path("images.prototxt").write_text(text)
    Path("list.txt").write_text("image.png 0\n")
    net = Net("images.prototxt", seed=4)
    net.save("weights/random.pt")
    expected = _scores(net)
    words = (
        "classify image.png --weights weights/random.pt --model images.prototxt --no-flip --json"
    )
    capsys.readouterr()
    assert main(words.split()) == 0
    out, said = capsys.readouterr()
    assert "images are resized to 7 x 11 (bilinear), as the model says" in said
    classes = json.loads(out)[0]["classes"]
    found = {one["class"]: one["probability"] for one in classes}
    assert [found[0], found[1]] == pytest.approx(expected, abs=2e-6)
    assert main([*words.split(), "--scales", "7"]) == 0
    out, said = capsys.readouterr()
    assert "resized" not in said
    other = json.loads(out)[0]["classes"][0]["probability"]
    assert other != pytest.approx(max(expected), abs=1e-4)


def _scores(net: Net) -> list[float]:
    """The probabilities of a net without its Softmax, for the first image of its data."""
    net.observe = True
    net.run(0)
    scores = np.asarray(net.blobs["ip"].data, np.float64)[0]
    parts = np.exp(scores - scores.max())
    return (parts / parts.sum()).tolist()


@pytest.mark.parametrize(
    "command",
    [
        "classify image.png --weights weights/w.pt --mean 110 --scales 8",
        "verify weights/w.pt weights/w.safetensors",
        "convert weights/w.npz weights/w.py",
    ],
)
def test_a_definition_that_is_asked_for(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    advice = re.search(r"(--model deploy\.prototxt)$", refused(capsys, command.split()))
    assert advice is not None
    assert main([*command.split(), *advice[1].split()]) == 0


def test_types_for_the_v1_layout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "weights/w.npz", "v1.caffemodel", "--to", "caffemodel-v1"]
    error = refused(capsys, words)
    assert "pass the net definition, too (--model)" in error
    assert main([*words, "--model", "deploy.prototxt"]) == 0
    types = [layer.type for layer in load_weights("v1.caffemodel").layers]
    assert types[:2] == ["Convolution", "InnerProduct"]


@pytest.mark.parametrize(
    "words",
    [
        ["deploy", "train val.prototxt", "there.prototxt"],
        ["convert", "weights/w.pt", "there.npz"],
        ["draw", "deploy.prototxt", "there.html"],
    ],
)
def test_a_file_that_exists(
    words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(words[-1]).write_text("mine")
    assert "--force" in refused(capsys, words)
    assert Path(words[-1]).read_text() == "mine"
    assert main([*words, "--force"]) == 0
    assert Path(words[-1]).read_bytes() != b"mine"
