"""The verbs draw and draw-net."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat import Net
from caffecompat.cli.main import main
from tests.draw.nets import convolution, join, product, relu, residual_net

DEPLOY = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 8 dim: 12 } } }
"""
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="needs graphviz's program dot")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    net = convolution("conv", "data") + relu("conv") + product("fc", "conv")
    Path("net.prototxt").write_text(DEPLOY + net + join("Softmax", "prob", "fc"))
    return tmp_path


@pytest.fixture
def weights() -> str:
    Net("net.prototxt").save("w.caffemodel")
    return "w.caffemodel"


def test_without_a_target_the_page_is_beside_the_net(capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    shutil.move("net.prototxt", "sub/net.prototxt")
    assert main(["draw", "sub/net.prototxt"]) == 0
    assert "wrote sub/net.html: 5 layers" in capsys.readouterr().out
    assert Path("sub/net.html").read_text().startswith("<!doctype html>")
    assert [path.name for path in Path("sub").iterdir() if path.suffix == ".tmp"] == []


def test_a_file_is_replaced_with_force_only(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.html").write_text("kept")
    for words in (["net.prototxt"], ["net.prototxt", "net.html"]):
        assert main(["draw", *words]) == 1
        assert "net.html: already exists; replace it with --force" in capsys.readouterr().err
    assert Path("net.html").read_text() == "kept"
    assert main(["draw", "net.prototxt", "--force"]) == 0
    assert Path("net.html").read_text() != "kept"


def test_bad_nets_replace_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.html").write_text("kept")
    Path("bad.prototxt").write_text("layer {")
    assert main(["draw", "bad.prototxt", "net.html", "--force"]) == 1
    assert "bad.prototxt:1:" in capsys.readouterr().err
    assert main(["draw", "none.prototxt", "net.html", "--force"]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert Path("net.html").read_text() == "kept"


def test_a_net_that_cannot_be_built_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.prototxt").write_text(DEPLOY + join("Mystery", "odd", "data"))
    assert main(["draw", "odd.prototxt"]) == 0
    said = capsys.readouterr().out
    assert (
        "# 1 layer cannot be built and is marked; shapes that\n# depend on it are unknown" in said
    )
    assert "unknown layer type 'Mystery' in odd.prototxt:4: layer 'odd'" in said


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["net.prototxt", "net.doc"], 1, "net.doc: the name must end in .html, .svg"),
        (["net.prototxt", "--phase", "BOTH"], 1, "phase is 'BOTH'; it must be TRAIN, TEST or ALL"),
        (["-"], 2, "a net from standard input needs a target: caffecompat draw - net.html"),
        (["net.prototxt", "x.svg", "--weights", "w"], 2, "--weights is shown by an .html page"),
        (["net.prototxt", "--input", "cat.png"], 2, "--input needs --weights"),
        (["net.prototxt", "none/net.html"], 1, "there is no folder"),
        (["net.prototxt", "--weights", "none.caffemodel"], 1, "none.caffemodel: there is no such"),
        (["net.prototxt", "--shape", "x=3x4"], 1, "a shape is stated for 'x'"),
    ],
)
def test_mistakes(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", *words]) == code
    assert sentence in capsys.readouterr().err
    assert not Path("net.html").exists()


def test_weights_and_activations(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((30, 20, 3), np.uint8)
    image[:, 10:] = 200
    cv2.imwrite("cat.png", image)
    Path("labels.txt").write_text("\n".join(["one", "two", "three", "four", "five"]))
    words = ["draw", "net.prototxt", "--weights", weights, "--input", "cat.png"]
    assert main(words) == 1
    assert "nothing says how images are prepared" in capsys.readouterr().err
    assert main([*words, "--preprocessing", "none", "--labels", "labels.txt"]) == 0
    page = Path("net.html").read_text()
    for number in range(5):
        assert f'id="arrays-{number}"' in page
    assert '"role":"parameter","name":"weight"' in page
    assert '"role":"activation","name":"prob"' in page
    assert '"three"' in page
    # The page holds the prediction of the same pass.
    net = Net("net.prototxt", weights=weights)
    middle = cv2.resize(image, (12, 18), interpolation=cv2.INTER_AREA)[5:13]
    prob = net.forward(data=middle.transpose(2, 0, 1)[None].astype(np.float32))["prob"][0]
    assert f'[{prob.argmax()},"{["one", "two", "three", "four", "five"][prob.argmax()]}"' in page


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--input", "none.png"], "none.png: it cannot be read: there is no such file"),
        (["--input", "net.prototxt"], "net.prototxt: it is not an image that OpenCV can decode"),
        (["--input", "cat.png", "--mean", "1,2"], "--mean 1,2: has 2 values"),
        (["--input", "cat.png", "--phase", "ALL"], "--input needs one phase"),
    ],
)
def test_mistakes_with_images(
    flags: list[str], sentence: str, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite("cat.png", np.zeros((9, 9, 3), np.uint8))
    words = ["draw", "net.prototxt", "--weights", weights, "--preprocessing", "none"]
    assert main([*words, *flags]) in (1, 2)
    assert sentence in capsys.readouterr().err
    assert not Path("net.html").exists()


def test_weights_of_another_net(weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.prototxt").write_text(DEPLOY + product("other", "data"))
    assert main(["draw", "other.prototxt", "--weights", weights]) == 1
    assert "no layer of other.prototxt has weights in this file" in capsys.readouterr().err


def test_draw_net_as_dot(capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.prototxt").write_text(
        'layer { name: "in" type: "DummyData" top: "data" include { phase: TRAIN }'
        "  dummy_data_param { shape { dim: 2 dim: 3 } } }"
        + product("fc", "data").replace(
            "inner_product_param", "param { lr_mult: 2 } inner_product_param"
        )
    )
    Path("train.dot").write_text("replaced, as by Caffe's script")
    assert main(["draw_net.py", "train.prototxt", "train.dot", "--rankdir", "TB"]) == 0
    text = Path("train.dot").read_text()
    assert "rankdir=TB" in text
    assert 'label="in\\nDummyData"' in text
    assert "lr_mult" not in text
    flags = ["--phase", "TRAIN", "--display_lrm"]
    assert main(["draw-net", "train.prototxt", "train.dot", *flags]) == 0
    text = Path("train.dot").read_text()
    assert "rankdir=LR" in text
    assert "lr_mult 2" in text
    assert main(["draw-net", "train.prototxt", "train.dot", "--phase=TEST"]) == 0
    assert "DummyData" not in Path("train.dot").read_text()
    assert main(["draw-net", "train.prototxt", "train.html"]) == 1
    assert "caffecompat draw writes .html too" in capsys.readouterr().err


@needs_dot
def test_pictures() -> None:
    pytest.importorskip("graphviz")
    Path("res.prototxt").write_text(residual_net(2))
    assert main(["draw", "res.prototxt", "res.svg", "--rankdir", "lr"]) == 0
    svg = Path("res.svg").read_text()
    for part in ("res2b1_branch2a", "Eltwise", "112 parameters", "2×4×9×7"):
        assert part in svg
    assert main(["draw-net", "res.prototxt", "res.png"]) == 0
    assert Path("res.png").read_bytes().startswith(b"\x89PNG")


def test_a_net_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path("net.prototxt").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert main(["draw", "-", "out.html"]) == 0
    assert "wrote out.html: 5 layers" in capsys.readouterr().out
    assert "standard input" in Path("out.html").read_text()
