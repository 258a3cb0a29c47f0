"""Every command of the page about the paper's tables runs, on a miniature data set."""

from __future__ import annotations

import re
import shlex
from math import prod
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
ROWS = r"^\| ([A-E][\w-]*) \| \S+ \| ([\d,]+) \| [\d., ]+ \| +\|$"
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
            write_images(Path(data_set, name), 4)
    names = [f"2010_{number}" for number in range(4)]
    write_voc(Path("VOCdevkit/VOC2007"), {"Main/trainval": names, "Main/test": names[2:]})
    persons = {"Action/train": names, "Action/val": names[2:]}
    write_voc(Path("VOCdevkit/VOC2012"), {**persons, "Main/train": names, "Main/val": names[1:]})


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (20, 20 + number % 2, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)


def miniature_of(command: str) -> list[str]:
    """The words of a command, with fewer images of each class, and small ones."""
    fewer = re.sub(r"--train-per-class \d+", "--train-per-class 3", command)
    fewer = re.sub(r"--test-per-class \d+", "--test-per-class 1", fewer)
    return shlex.split(re.sub(r"(?<=--scales )[\d,]+", small_scales, fewer))


def small_scales(match: re.Match[str]) -> str:
    """As many, in the same order, from the side of the crop on."""
    scales = [int(scale) for scale in match[0].split(",")]
    assert min(scales) >= 224
    return ",".join(str(224 + 8 * sorted(scales).index(scale)) for scale in scales)


def test_the_commands(miniature: None, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    for command in COMMANDS:
        assert main(miniature_of(command)) == 0, command
    out = capsys.readouterr().out
    assert out.count("top-1 error ") >= 30
    caltech = r"^mean class recall \d+\.\d+ \+- \d+\.\d+ % \(mean .* over 3 splits\)$"
    assert len(re.findall(caltech, out, re.M)) == 6
    voc = r"^C = .*trained on (\d) images: mean average precision \d+\.\d+ % on (\d) test images$"
    classes = [("4", "2")] * 3 + [("4", "3")] * 3
    assert re.findall(voc, out, re.M) == classes + [("8", "4")] * 2
    assert len(re.findall(r"^reading: average precision \d+\.\d+ %$", out, re.M)) == 8
    both, image = (load_features(f"DE_{part}_val.h5") for part in ("both", "image"))
    assert both.features.shape[1] == 2 * image.features.shape[1]
    assert "mean of 7 members: 2 images; posteriors averaged" in out


def test_each_row_has_its_command() -> None:
    """As many evaluations as rows of Tables 3 and 4, and of the crops of Table 5."""
    rows = re.findall(ROWS, PAGE, re.MULTILINE)
    evaluations = [command for command in COMMANDS if "--protocol" in command]
    assert len(rows) == 12 + 10
    assert len(evaluations) == len(rows) + 2


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("Table 6", "evaluate --ensemble"),
        ("Table 7", "evaluate --ensemble"),
        ("Table 11", "svm"),
        ("Table 12", "svm"),
    ],
)
def test_rows_and_results(heading: str, command: str) -> None:
    """A table has as many rows, with a column for one's own result, as commands that print one."""
    (section,) = re.findall(rf"^## {heading}:.*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| .*\d \| +\|$", section, re.MULTILINE)
    printing = re.findall(rf"^caffecompat {command} ", section, re.MULTILINE)
    assert len(rows) == len(printing) > 0


def test_the_operations_are_those_of_the_nets() -> None:
    """The figures of the first three rows of time follow from the sizes of the nets."""
    stated = re.findall(r"^\| [345], .*? \| (\d+) \| \d+ days \|", PAGE, re.MULTILINE)
    rows = [dense_operations(*row) for row in re.findall(ROWS, PAGE, re.MULTILINE)]
    crops = 150 * sum(sum(operations(net)) for net in "DE")
    found = [sum(rows[:12]), sum(rows[12:]), dense_operations("D", "256,384,512"), crops]
    images = 50_000
    assert [float(value) for value in stated] == [round(images * one / 1e15) for one in found]


def operations(name: str) -> tuple[float, float]:
    """Of the convolutions and of the fully connected layers, for one crop of 224x224."""
    net = Net(REPOSITORY / "prototxt" / f"{name}_deploy.prototxt", shapes_only=True)
    found = [0, 0]
    for built in net.layers:
        if built.layer is not None and built.layer.specs:
            top = net.blobs[built.tops[0].blob].shape
            found[len(top) == 2] += 2 * prod(built.layer.specs[0].shape) * prod(top[2:])
    return found[0], found[1]


def dense_operations(name: str, scales: str) -> float:
    """Of an image of 375x500 and its mirror image."""
    convolutions, connected = operations(name)
    total = 0.0
    for side in map(int, scales.split(",")):
        longer = round(side * 500 / 375)
        places = (side // 32 - 6) * (longer // 32 - 6)
        total += 2 * (convolutions * side * longer / 224**2 + connected * places)
    return total
