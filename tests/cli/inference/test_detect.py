"""``caffecompat detect`` on small nets whose predictions are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.data.codec.images import decode_image, encode_image
from tests.cli.inference.detection_models import SSD, model, single_shot

REGIONS = """name: "two"
layer { name: "in" type: "Input" top: "data" top: "im_info"
  input_param { shape { dim: 1 dim: 3 dim: 20 dim: 30 } shape { dim: 1 dim: 3 } } }
layer { name: "whole" type: "Pooling" bottom: "data" top: "whole"
  pooling_param { pool: AVE global_pooling: true } }
layer { name: "rois" type: "InnerProduct" bottom: "im_info" top: "rois"
  inner_product_param { num_output: 5 bias_term: false } }
layer { name: "score" type: "InnerProduct" bottom: "whole" top: "score"
  inner_product_param { num_output: 2 weight_filler { value: 0 } bias_term: false } }
layer { name: "cls_prob" type: "Softmax" bottom: "score" top: "cls_prob" }
layer { name: "bbox_pred" type: "InnerProduct" bottom: "whole" top: "bbox_pred"
  inner_product_param { num_output: 8 bias_term: false } }
"""


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A red image of 40 x 80 pixels."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:] = (0, 0, 200)
    path = tmp_path / "red.png"
    path.write_bytes(encode_image(pixels, "png"))
    return str(path)


@pytest.mark.parametrize("optimize", [[], ["--optimize"]])
def test_table_of_a_single_shot_net(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str], optimize: list[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("nothing\ngreen one\nred one\n")
    flags = [*single_shot(tmp_path), "--preprocessing", "none", "--labelmap", str(names)]
    flags += optimize
    assert main(["detect", image, *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "class", "name", "score", "xmin", "ymin", "xmax", "ymax"]
    # exp(2) / (exp(2) + 2), and a box from 0 to 80 and from 10 to 30.
    assert lines[-1].split()[-6:] == ["one", "0.7870", "0", "10", "80", "30"]
    assert main(["detect", image, *flags, "--threshold", "0.9"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_json_and_pictures(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "map.prototxt").write_text(
        'item { name: "b" label: 0 } item { name: "r" label: 2 display_name: "red" }'
    )
    picture = tmp_path / "out.png"
    flags = ["--preprocessing", "none", "--labelmap", str(tmp_path / "map.prototxt"), "--json"]
    flags += ["--picture", str(picture)]
    assert main(["detect", image, image, *single_shot(tmp_path), *flags]) == 0
    first, second = json.loads(capsys.readouterr().out)
    (one,) = first["detections"]
    assert (first["image"], one["class"], one["name"]) == (image, 2, "red")
    assert one["box"] == pytest.approx([0, 10, 80, 30], abs=0.01)
    assert second["detections"] == first["detections"]
    drawn = decode_image(picture.read_bytes(), "color")
    assert drawn is not None
    assert drawn[35, 40].tolist() == [0, 0, 200]
    assert drawn[29, 40].tolist() != [0, 0, 200]
    assert (tmp_path / "out-2.png").read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("optimize", [[], ["--optimize"]])
def test_regions_of_faster_rcnn(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str], optimize: list[str]
) -> None:
    """The image is scaled to 20 x 40; the only box is (0, h / 2, 0, h) there, made wider."""
    rois: list[list[float]] = [[0, 0, 0], [0, 0, 0], [0.5, 0, 0], [0, 0, 0], [1, 0, 0]]
    scores: list[list[float]] = [[0, 0, 0], [0, 0, 0.01]]
    wider = np.log(21) / 200
    deltas = [[0.0] * 3 for _ in range(8)]
    deltas[6] = [0, 0, wider]
    flags = model(tmp_path, REGIONS, rois=rois, score=scores, bbox_pred=deltas)
    flags += ["--preprocessing", "none", "--min-side", "20", "--json", *optimize]
    assert main(["detect", image, *flags]) == 0
    ((one,),) = [entry["detections"] for entry in json.loads(capsys.readouterr().out)]
    # In pixels of the file the box is (0, 20, 0, 40), one pixel wide; its centre stays.
    assert one["score"] == pytest.approx(np.exp(2) / (np.exp(2) + 1), abs=1e-4)
    assert one["box"] == pytest.approx([0, 20, 11, 39], abs=0.05)


def test_regions_of_pvanet(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """40 x 80 is scaled to 20 x 40 and cut to 14 x 35: scales 0.4375 of x and 0.35 of y."""
    wide = REGIONS.replace("dim: 1 dim: 3 } }", "dim: 1 dim: 6 } }")
    rois = np.zeros((5, 6))
    rois[1, 2], rois[2, 3], rois[3, 4], rois[4, 5] = 8, 10, 80, 100  # x, y, x, y scale
    scores: list[list[float]] = [[0, 0, 0], [0, 0, 0.01]]
    deltas = [[0.0] * 3] * 8
    flags = model(tmp_path, wide, rois=rois.tolist(), score=scores, bbox_pred=deltas)
    flags += ["--preprocessing", "none", "--min-side", "20"]
    assert main(["detect", image, *flags, "--side-multiple", "7", "--json"]) == 0
    ((one,),) = [entry["detections"] for entry in json.loads(capsys.readouterr().out)]
    assert one["box"] == pytest.approx([8, 10, 79, 39], abs=0.05)
    assert main(["detect", image, *flags, "--side-multiple", "21"]) == 1
    assert "scaled to sides below 21 pixels, of which they must be" in capsys.readouterr().err
    assert main(["detect", image, *flags, "--side-multiple", "0"]) == 1


def test_no_regions(tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As where all proposals are smaller than the least size."""
    empty = """
layer { name: "none" type: "Filter" bottom: "all" bottom: "no" top: "rois" }
layer { name: "no" type: "Threshold" bottom: "one" top: "no" threshold_param { threshold: 1e9 } }
"""
    none, no = empty.strip().splitlines()
    one = """layer { name: "one" type: "InnerProduct" bottom: "im_info" top: "one"
  inner_product_param { num_output: 1 } }"""
    text = REGIONS.replace('top: "rois"', 'top: "all"')
    for name in ("cls_prob", "bbox_pred"):
        text = text.replace(f'top: "{name}"', f'top: "all_{name}"')
        none += f'layer {{ type: "Filter" bottom: "all_{name}" bottom: "no" top: "{name}" }}'
    flags = model(tmp_path, text + one + no + none)
    assert main(["detect", image, *flags, "--preprocessing", "none"]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "nothing says how images are prepared"),
        (["--preprocessing", "none", "--threshold", "2"], "--threshold is 2, expected 0 to 1"),
        (["--preprocessing", "none", "--min-side", "0"], "--min-side is 0"),
        (["--preprocessing", "none", "--labelmap", "missing"], "missing"),
        (["--mean", "1,2"], "--mean 1,2: has 2 values, and the net takes images of 3 channels"),
    ],
)
def test_refusals(
    tmp_path: Path,
    image: str,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    sentence: str,
) -> None:
    assert main(["detect", image, *single_shot(tmp_path), *flags]) == 1
    assert sentence in capsys.readouterr().err


def test_other_nets_are_refused(
    tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SSD[: SSD.index('layer { name: "prior"')]
    flags = model(tmp_path, text)
    assert main(["detect", image, *flags, "--preprocessing", "none"]) == 1
    err = capsys.readouterr().err
    assert "the net is no detector that is known here: it has the inputs 'data'" in err
