"""``classification``: the numbers and lines of Caffe's C++ example."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from caffecompat.weights.mean_file import read_mean, write_mean

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: CHANNELS dim: 5 dim: 7 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 6 weight_filler { type: "gaussian" std: 0.004 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
LABELS = [f"n0000{number} word {number}" for number in range(6)]


@pytest.fixture(params=[3, 1])
def channels(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """A net for images of so many channels, with its files, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(2)
    Path("deploy.prototxt").write_text(NET.replace("CHANNELS", str(request.param)))
    Net("deploy.prototxt", seed=1).save("net.caffemodel")
    write_mean(rng.uniform(90, 130, (request.param, 9, 8)), "mean.binaryproto")
    Path("labels.txt").write_text("\n".join(LABELS) + "\n")
    cv2.imwrite("cat.png", rng.integers(0, 256, (12, 17, 3), np.uint8))
    return int(request.param)


def expected(channels: int) -> list[str]:
    """What the example prints, step by step."""
    image = cv2.imread("cat.png", cv2.IMREAD_UNCHANGED)
    assert image is not None
    if channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    values = cv2.resize(image, (7, 5)).astype(np.float32).reshape(5, 7, channels)
    net = Net("deploy.prototxt", weights="net.caffemodel")
    mean = read_mean("mean.binaryproto").reshape(channels, -1).mean(1, dtype=np.float64)
    batch = (values - mean.astype(np.float32)).transpose(2, 0, 1)[None]
    found = np.asarray(net.forward(data=batch)["prob"])[0]
    best = sorted(range(6), key=lambda label: -found[label])[:5]
    return [f'{found[label]:.4f} - "{LABELS[label]}"' for label in best]


def test_what_the_example_prints(channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["deploy.prototxt", "net.caffemodel", "mean.binaryproto", "labels.txt"]
    assert main(["classification.bin", *words, "cat.png", "cat.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["---------- Prediction for cat.png ----------", *expected(channels)] * 2
    assert len({line.split()[0] for line in lines}) > 3


def test_bad_files(channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("two.prototxt").write_text(
        Path("deploy.prototxt").read_text()
        + 'layer { name: "more" type: "Softmax" bottom: "ip" top: "more" }'
    )
    Path("loss.prototxt").write_text(
        Path("deploy.prototxt").read_text()
        + 'layer { name: "sum" type: "Reduction" bottom: "prob" top: "sum" }'
    )
    write_mean(np.ones((4 - channels, 2, 2)), "other.binaryproto")
    Path("few.txt").write_text("cat\n")
    good = ["deploy.prototxt", "net.caffemodel", "mean.binaryproto", "labels.txt", "cat.png"]
    for place, name, words in (
        (
            0,
            "two.prototxt",
            "'more', 'prob'; give a deploy net with one input and the class scores alone",
        ),
        (0, "loss.prototxt", "; give a deploy net that ends in the scores of classes"),
        (0, "none.prototxt", "none.prototxt: there is no such file"),
        (2, "other.binaryproto", "; give the mean of images like the net's"),
        (3, "few.txt", "few.txt: it has 1 lines, but the net has 6 classes"),
        (4, "labels.txt", "it is not an image that OpenCV can decode"),
    ):
        assert main(["classification", *good[:place], name, *good[place + 1 :]]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert main(["classification", *good]) == 0
