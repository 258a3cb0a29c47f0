"""Every command of the page about localisation runs on a miniature data set; training apart."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import load_verb, main, verb_parser
from caffecompat.evaluate.classification import posteriors
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.proto.text.parser import parse_text
from tests.places import REPOSITORY

PAGE = (REPOSITORY / "docs" / "localisation.md").read_text("utf-8")
COMMANDS = re.findall(r"^caffecompat (.+)$", PAGE, re.MULTILINE)
CLASSES = 6
# As coarse as can be, with the input of the paper's nets.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 1 kernel_size: 32 stride: 32
                            weight_filler { type: "constant" value: 1e-6 } } }
layer { name: "fc8_box" type: "InnerProduct" bottom: "conv" top: "fc8_box"
        inner_product_param { num_output: OUTPUTS weight_filler { type: "xavier" }
                              bias_filler { type: "constant" value: 0.5 } } }
"""
OBJECT = (
    "<object><name>n{label}</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax>"
    "<ymax>14</ymax></bndbox></object>"
)


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the commands name, but small."""
    monkeypatch.chdir(tmp_path)
    folders = "prototxt/localisation weights val annotations/val annotations/train data posteriors"
    for folder in folders.split():
        Path(folder).mkdir(parents=True)
    for kind, outputs in (("SCR", 4), ("PCR", 4 * CLASSES)):
        path = f"prototxt/localisation/D_{kind}_deploy.prototxt"
        assert (REPOSITORY / path).exists()
        Path(path).write_text(NET.replace("OUTPUTS", str(outputs)))
        for seed, name in enumerate(sorted(set(re.findall(rf"weights/D_{kind}\w+.\w+", PAGE)))):
            Net(path, seed=seed).save(name)
    random = np.random.default_rng(0)
    for number in range(2):
        pixels = random.integers(0, 256, (20, 20 + number, 3), dtype=np.uint8)
        cv2.imwrite(f"val/{number}.JPEG", pixels)
        text = f"<annotation>{OBJECT.format(label=number)}</annotation>"
        for part in ("train", "val"):
            Path(f"annotations/{part}/{number}.xml").write_text(text)
    Path("synset_words.txt").write_text("".join(f"n{i} class {i}\n" for i in range(CLASSES)))
    values = random.dirichlet(np.ones(CLASSES), 2).astype(np.float32)
    found = Posteriors(("0.JPEG", "1.JPEG"), np.arange(2), np.arange(2), values)
    for name in set(re.findall(r"posteriors/[\w-]+\.npz", PAGE)):
        posteriors.save(found, name)
    for name, text in re.findall(r"^```text (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        Path(name).write_text(text)


def test_the_commands(miniature: None, capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "train":
            verb_parser("train", load_verb("train")).parse_args(words[1:])
            assert (REPOSITORY / words[-1]).exists()
        else:
            assert main(words) == 0, command
    out = capsys.readouterr().out
    assert out.count("localisation error of the true class ") == 3
    assert out.count("top-5 localisation error ") == 4
    assert "2 images; dense at scale 256; 352, 384; with flips" in out
    assert len(list(Path("pictures").glob("*.png"))) == 2


def test_each_row_has_its_command() -> None:
    rows = re.findall(r"^\|.*\| \d\d\.\d \|[ \d.|]* \|$", PAGE, re.MULTILINE)
    # The row of Table 10 is that of the last command of Table 9.
    assert len(rows) == 3 + 4 + 1
    assert len([command for command in COMMANDS if command.startswith("localise")]) == 3 + 4


def test_the_layer_is_read() -> None:
    (text,) = re.findall(r"^```text\n(layer .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    net = Net(parse_text(text, "NetParameter")[0], phase="train", shapes_only=True)
    assert net.blobs["mask"].shape == (256, 4000)
