"""Every command of the page about the paper's tables runs, on a miniature data set."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.evaluate.features.feature_file import load_features
from tests.evaluate.voc import write_voc
from tests.places import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reproduce.md").read_text("utf-8")
COMMANDS = re.findall(r"^caffecompat (.+)$", PAGE, re.MULTILINE)
# As coarse as can be, with the input of the paper's nets.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 32 stride: 32
                            weight_filler { type: "xavier" } } }
layer { name: "fc7" type: "InnerProduct" bottom: "conv" top: "fc7"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8"
        inner_product_param { num_output: 6 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }
"""


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the commands name, but small."""
    monkeypatch.chdir(tmp_path)
    for folder in ("prototxt", "weights", "val", "posteriors"):
        Path(folder).mkdir()
    for name in set(re.findall(r"prototxt/[\w-]+\.prototxt", PAGE)):
        assert (REPOSITORY / name).exists()
        Path(name).write_text(NET)
    weights = sorted(set(re.findall(r"weights/[\w-]+\.caffemodel", PAGE)))
    for seed, name in enumerate(weights):
        Net(next(Path("prototxt").iterdir()), seed=seed).save(name)
    write_images(Path("val"), 2)
    Path("val.txt").write_text("0.png 0\n1.png 1\n")
    for data_set in ("101_ObjectCategories", "256_ObjectCategories"):
        for name in ("001.cat", "002.dog"):
            write_images(Path(data_set, name), 5)
    names = [f"2010_{number}" for number in range(4)]
    write_voc(Path("VOCdevkit/VOC2007"), {"Main/trainval": names, "Main/test": names[2:]})
    write_voc(Path("VOCdevkit/VOC2012"), {"Action/train": names, "Action/val": names[2:]})


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (20, 20 + number % 2, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)


def miniature_of(command: str) -> list[str]:
    """The words of a command, with fewer images of each class."""
    fewer = re.sub(r"--train-per-class \d+", "--train-per-class 4", command)
    return shlex.split(re.sub(r"--test-per-class \d+", "--test-per-class 1", fewer))


def test_the_commands(miniature: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    for command in COMMANDS:
        assert main(miniature_of(command)) == 0, command
    out = capsys.readouterr().out
    assert out.count("top-1 error ") >= 30
    caltech = r"^mean class recall \d+\.\d+ \+- \d+\.\d+ % \(mean .* over 3 splits\)$"
    assert len(re.findall(caltech, out, re.M)) == 4
    voc = r"^C = .*trained on (\d) images: mean average precision \d+\.\d+ % on (\d) test images$"
    assert re.findall(voc, out, re.M) == [("4", "2")] * 2 + [("8", "4")] * 2
    assert len(re.findall(r"^reading: average precision \d+\.\d+ %$", out, re.M)) == 4
    both, image = (load_features(f"DE_{part}_val.h5") for part in ("both", "image"))
    assert both.features.shape[1] == 2 * image.features.shape[1]
    assert "mean of 7 members: 2 images; posteriors averaged" in out


def test_each_row_has_its_command() -> None:
    """As many evaluations as rows of Tables 3 and 4, and of the crops of Table 5."""
    rows = re.findall(r"^\| [A-E][\w-]* \| \S+ \| [\d,]+ \| [\d., ]+ \| +\|$", PAGE, re.MULTILINE)
    evaluations = [command for command in COMMANDS if "--protocol" in command]
    assert len(rows) == 12 + 10
    assert len(evaluations) == len(rows) + 2
