"""Caffe's scripts classify, detect and draw_net as modules."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat.pycaffe.classifier import Classifier
from caffecompat.pycaffe.scripts import classify, detect, draw_net
from caffecompat.weights import write_mean
from tests.places import REPOSITORY
from tests.pycaffe.models import CLASSES, write_image, write_model

pytest.importorskip("cv2")
WINDOWS = "filename,ymin,xmin,ymax,xmax\na.png,1,2,9,8\na.png,0,0,19,10\nb.png,3,4,11,12.5\n"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags of a model in the working folder, which has two images too."""
    monkeypatch.chdir(tmp_path)
    definition, weights = write_model(tmp_path)
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png", seed=1)
    return ["--model_def", definition, "--pretrained_model", weights]


def test_classify_a_folder(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_mean(np.ones((3, 9, 9), np.float32) * np.array([[[1.0]], [[2]], [[3]]]), "m.binaryproto")
    flags = ["--mean_file", "m.binaryproto", "--images_dim", "9,10", "--ext", "png"]
    assert classify.main([".", "out", *model, *flags, "--input_scale", "0.01"]) == 0
    assert "Classifying 2 inputs." in capsys.readouterr().out
    found = np.load("out.npy")
    net = Classifier(
        model[1],
        model[3],
        image_dims=(9, 10),
        mean=np.array([1.0, 2, 3]),
        input_scale=0.01,
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )
    images = [write_image(Path(name), seed=n) for n, name in enumerate(("a.png", "b.png"))]
    np.testing.assert_allclose(found, net.predict(images), rtol=1e-5)


def test_classify_an_image_and_an_array(model: list[str]) -> None:
    image = write_image(Path("a.png"))
    flags = [*model, "--center_only", "--raw_scale", "1", "--channel_swap", ""]
    assert classify.main(["a.png", "one.npy", *flags]) == 0
    np.save("images.npy", np.stack([image, image[::-1]]))
    assert classify.main(["images.npy", "two.npy", *flags]) == 0
    np.testing.assert_allclose(np.load("one.npy")[0], np.load("two.npy")[0], rtol=1e-5)
    assert np.load("two.npy").shape == (2, CLASSES)


def test_classify_with_a_net_of_gray_images(model: list[str], tmp_path: Path) -> None:
    write_model(tmp_path, channels=1)
    assert classify.main(["a.png", "out.npy", *model]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.png", "o.npy"], "missing.png: it cannot be read: there is no such file"),
        (["empty", "o.npy"], "empty: has no images *.jpg; --ext names another suffix"),
        (["net.prototxt", "o.npy"], "net.prototxt: it is no image"),
        (["a.png", "o.npy", "--mean_file", "a.png"], "a.png: this is a PNG image; expected a mean"),
        (["net.npy", "o.npy"], "net.npy: expected a .npy file of numbers, it begins otherwise"),
        (["bad.npy", "o.npy"], "bad.npy: has shape (3, 4), expected images x height x width x"),
        (["a.png", "no/o.npy"], "there is no folder"),
        (["a.png", "o.npy", "--mean_file", "bad.npy"], "bad.npy: the mean has shape (3, 4)"),
    ],
)
def test_mistakes_of_classify(
    words: list[str], sentence: str, model: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    np.save("bad.npy", np.zeros((3, 4)))
    Path("net.npy").write_text("layer {}")
    assert classify.main([*words, *model]) == 1
    assert sentence in capsys.readouterr().err
    assert not Path("o.npy").exists()


def test_wrong_usage(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--images_dim", "9"], ["--channel_swap", "b,g,r"]):
        with pytest.raises(SystemExit) as raised:
            classify.main(["a.png", "o.npy", *model, *flags])
        assert raised.value.code == 2
        assert "expected" in capsys.readouterr().err


def test_detect(
    model: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("w.csv").write_text(WINDOWS)
    flags = [*model, "--crop_mode", "list", "--context_pad", "2"]
    assert detect.main(["w.csv", "out.csv", *flags]) == 0
    assert "Processed 3 windows" in capsys.readouterr().out
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == ["a.png", "a.png", "b.png"]
    assert rows[2]["xmax"] == "12.5"
    scores = np.array([[float(row[f"class{k}"]) for k in range(CLASSES)] for row in rows])
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    # As if pandas were not installed.
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert detect.main(["w.csv", "out.h5", *flags]) == 0
    with h5py.File("out.h5") as content:
        np.testing.assert_array_equal(content["prediction"][()], scores.astype(np.float32))
        np.testing.assert_array_equal(content["window"][2], [3, 4, 11, 12.5])
        assert content["filename"].asstr()[2] == "b.png"


def test_detect_writes_the_table_of_pandas(model: list[str]) -> None:
    pytest.importorskip("tables")
    pandas = pytest.importorskip("pandas")
    Path("w.csv").write_text(WINDOWS)
    flags = [*model, "--crop_mode", "list", "--context_pad", "2"]
    for name in ("out.csv", "out.h5"):
        assert detect.main(["w.csv", name, *flags]) == 0
    table, lines = pandas.read_hdf("out.h5", "df"), pandas.read_csv("out.csv")
    assert table.index.name == "filename"
    assert list(table.index) == list(lines["filename"])
    assert list(table.columns) == ["prediction", "ymin", "xmin", "ymax", "xmax"]
    for name in table.columns[1:]:
        assert list(table[name]) == list(lines[name])
    scores = lines[[f"class{k}" for k in range(CLASSES)]].to_numpy(np.float32)
    assert np.array_equal(np.stack(table["prediction"].to_list()), scores)


@pytest.mark.parametrize(
    ("name", "text", "flags", "sentence"),
    [
        ("w.txt", "a.png\n", ["--crop_mode", "list"], "names images without windows"),
        ("w.txt", "a.png\n", [], "selective_search_ijcv_with_python"),
        ("w.csv", "filename,ymin\n", ["--crop_mode", "list"], "has no xmin, ymax, xmax"),
        ("w.csv", WINDOWS + "a.png,1,2,x,3\n", ["--crop_mode", "list"], "w.csv:5: expected four"),
        ("w.csv", WINDOWS[:29], ["--crop_mode", "list"], "there are no windows"),
        ("w.tsv", WINDOWS, ["--crop_mode", "list"], "unknown input file type"),
        ("w.csv", "\udc80", ["--crop_mode", "list"], "is no text in UTF-8"),
    ],
)
def test_mistakes_of_detect(
    name: str,
    text: str,
    flags: list[str],
    sentence: str,
    model: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(name).write_bytes(text.encode(errors="surrogateescape"))
    assert detect.main([name, "out.csv", *model, *flags, "--context_pad", "0"]) == 1
    assert sentence in capsys.readouterr().err
    assert not Path("out.csv").exists()


def test_draw_net(model: list[str]) -> None:
    pytest.importorskip("pydot")
    if shutil.which("dot") is None:
        pytest.skip("Graphviz is not installed")
    words = [model[1], "net.svg", "--rankdir", "TB", "--phase", "TEST", "--display_lrm"]
    assert draw_net.main(words) == 0
    assert "kernel size: 3 stride: 1 pad: 0 lr mult: 1.0, 1.0" in Path("net.svg").read_text()
    assert draw_net.main(["missing.prototxt", "net.svg"]) == 1


def test_as_a_module() -> None:
    """The help of a script does not wait for torch."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "caffecompat.pycaffe.scripts.classify", "-h"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--center_only" in result.stdout
    assert "numpy" in result.stderr
    assert "torch" not in result.stderr
