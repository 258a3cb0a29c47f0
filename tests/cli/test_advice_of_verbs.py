"""What verbs that read models advise, followed to the letter: the flag or the other verb helps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.data.codec.images import encode_image
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


def test_a_training_net_classifies_after_deploy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["classify", "image.png", "--weights", "weights/w.pt", "--mean", "110", "--scales", "8"]
    error = refused(capsys, [*words, "--model", "train val.prototxt"])
    assert "caffecompat deploy makes a deploy net of a train_val net" in error
    assert main(["deploy", "train val.prototxt", "made.prototxt"]) == 0
    assert main([*words, "--model", "made.prototxt"]) == 0


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
