"""The verbs that run a deploy net on images: evaluate, classify, features, svm."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.evaluate.classification import posteriors
from caffecompat.evaluate.features.feature_file import load_features
from caffecompat.proto import schema
from caffecompat.weights import write_mean
from tests.data.databases import write_records
from tests.evaluate.small import NET, small_model, write_images

MEAN = ["--mean", "104,117,123", "--input-scale", "0.02"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    (tmp_path / "deploy.prototxt").write_text(NET)
    small_model().net().save("net.caffemodel")
    return tmp_path


def evaluate(*arguments: str) -> int:
    given = ["--weights", "net.caffemodel", "--data", "images/list.txt", "--scales", "15,18"]
    return main(["evaluate", *given, *arguments])


def test_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*MEAN, "--protocol", "both", "--output", "found.npz") == 0
    out = capsys.readouterr().out
    assert "7 images; dense and multicrop at scale 15, 18; with flips; scores averaged" in out
    found = posteriors.load("found.npz")
    right = (found.values.argmax(1) == found.labels).mean()
    assert f"top-1 error {100 * (1 - right):.2f} %, top-5 error " in out
    assert not Path("found.npz.unfinished").exists()
    np.testing.assert_allclose(found.values.sum(1), 1, atol=1e-5)


def test_an_ensemble(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*MEAN, "--protocol", "center", "--output", "a.npz") == 0
    Path("members.txt").write_text(
        "a.npz  # computed before\n\n--weights net.caffemodel --scales 20 --protocol multicrop\n"
    )
    assert evaluate(*MEAN, "--ensemble", "members.txt", "a.npz", "--output", "mean.npz") == 0
    first, mean = posteriors.load("a.npz"), posteriors.load("mean.npz")
    assert mean.names == first.names
    assert not np.allclose(mean.values, first.values)
    out = capsys.readouterr().out
    assert "net.caffemodel: 7 images; multicrop at scale 20;" in out
    assert "mean of 3 members: 7 images; posteriors averaged" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--weights net.caffemodel --protocol middle", "m.txt:1: argument --protocol: invalid"),
        ("\n--weights 'net.caffemodel", "m.txt:2: No closing quotation"),
        ("# nothing", "m.txt: it lists no members"),
        ("none.npz", "none.npz: "),
    ],
)
def test_ensembles_that_are_wrong(
    text: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.txt").write_text(text)
    assert evaluate(*MEAN, "--ensemble", "m.txt") == 1
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err


def test_members_of_other_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*MEAN, "--output", "a.npz") == 0
    lines = Path("images/list.txt").read_text().splitlines()
    Path("images/list.txt").write_text("\n".join(lines[1:]) + "\n")
    assert evaluate(*MEAN, "--output", "b.npz") == 0
    capsys.readouterr()
    assert main(["evaluate", "--ensemble", "a.npz", "b.npz"]) == 1
    assert "member 2 of the ensemble has 6 images, which are not the 7" in capsys.readouterr().err


def test_the_report(folder: Path) -> None:
    Path("names.txt").write_text("\n".join(f"<class {i}>" for i in range(6)))
    assert evaluate(*MEAN, "--report", "report", "--labels", "names.txt") == 0
    page = Path("report/index.html").read_text()
    assert "&lt;class 3&gt;" in page
    assert "<class 3>" not in page
    assert 'src="http' not in page
    pictures = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", page)
    assert len(pictures) > 2
    for _, data in pictures:
        decoded = np.frombuffer(base64.b64decode(data), np.uint8)
        assert cv2.imdecode(decoded, cv2.IMREAD_UNCHANGED) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing says how images are prepared for this net; give --preprocessing vgg"),
        (["--mean", "1,2"], "--mean 1,2: has 2 values, and the net takes images of 3 channels"),
        ([*MEAN, "--scales", "9"], "--scales: 9 is smaller than the 14x10 of the net's input"),
        ([*MEAN, "--data", "none.txt"], "none.txt: "),
        ([*MEAN, "--data", ""], "--data is missing; give a list or a folder of images"),
        ([*MEAN, "--weights", ""], "--weights is missing; give those of the net"),
        ([*MEAN, "--unlabelled"], "give --output FILE for"),
        ([*MEAN, "--data", "images/names.txt"], "which has no label"),
        ([*MEAN, "--data", "images/lost.txt"], "; --skip-corrupt leaves out images that cannot"),
        ([*MEAN, "--preprocessing", "vggg"], "did you mean 'vgg'"),
        ([*MEAN, "--data", "images/some.txt"], "line 2 is '1.png', which has no label"),
        ([*MEAN, "--data", "empty"], "empty: it has no sub-folders, so there are no classes"),
        ([*MEAN, "--data", "empty.txt"], "empty.txt: there are no images"),
        ([*MEAN, "--data", "three"], "has 3 sub-folders, one for each class, but the net has 6"),
        ([*MEAN, "--labels", "two.txt"], "two.txt: it has 2 lines, but the net has 6 classes"),
        ([*MEAN, "--output", "none/a.npz"], "none/a.npz: there is no folder "),
        ([*MEAN, "--output", "a.txt"], "--output a.txt: the name must end in .npz, .h5 or .hdf5"),
        ([*MEAN, "--data", "", "--report", "r"], "--report needs the images: give --data"),
    ],
)
def test_bad_input(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images/names.txt").write_text("0.png\n1.png\n")
    Path("images/lost.txt").write_text("0.png 1\nlost.png 2\n")
    Path("images/some.txt").write_text("0.png 3\n1.png\n2.png 1\n")
    Path("empty.txt").write_text("")
    Path("two.txt").write_text("a\nb\n")
    Path("empty").mkdir()
    for number in range(3):
        Path("three", str(number)).mkdir(parents=True)
        shutil.copy("images/0.png", f"three/{number}")
    assert evaluate(*arguments) == 1
    assert words in capsys.readouterr().err


def test_an_image_that_cannot_be_rescaled_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite("images/1.png", np.zeros((1, 3000, 3), np.uint8))
    assert evaluate(*MEAN) == 1
    assert "image '1.png': it is 1x3000 (height x width)" in capsys.readouterr().err
    assert evaluate(*MEAN, "--skip-corrupt") == 0
    assert "6 images" in capsys.readouterr().out


def test_a_folder_without_labels(folder: Path) -> None:
    assert evaluate(*MEAN, "--data", "images", "--no-labels", "--output", "a.npz") == 0
    found = posteriors.load("a.npz")
    assert found.names == tuple(f"{i}.png" for i in range(7))
    assert not found.labelled.any()


def test_records_without_a_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    datum = schema.new("Datum")
    datum.encoded = True
    records = []
    for number in range(3):
        datum.data = Path(f"images/{number}.png").read_bytes()
        if number:
            datum.label = number
        records.append(datum.SerializeToString())
    write_records(Path("records"), records)
    assert evaluate(*MEAN, "--data", "records") == 1
    assert "record 1 (key '00000000_r'): it has no label" in capsys.readouterr().err
    assert evaluate(*MEAN, "--data", "records", "--skip-corrupt", "--output", "a.npz") == 0
    assert posteriors.load("a.npz").labels.tolist() == [1, 2]
    assert evaluate(*MEAN, "--data", "records", "--no-labels", "--output", "b.npz") == 0
    assert len(posteriors.load("b.npz").names) == 3


def test_a_batch_of_nothing(folder: Path) -> None:
    assert evaluate(*MEAN, "--batch", "0") == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "scores averaged over the map, not posteriors; grid of crops up to the border, not "),
        (["--average", "posteriors"], "; posteriors averaged over the map, not scores; "),
        (["--grid", "inside"], "; grid of crops inside the border, not up to it; "),
        (["--interpolation", "area"], "; area interpolation, not smooth, bilinear or bicubic; "),
        (["--round-down"], "; longer side rounded down, not to the nearest pixel\n"),
    ],
)
def test_the_open_choices_are_reported(
    flags: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(*MEAN, "--protocol", "both", "--report", "report", *flags) == 0
    assert words in capsys.readouterr().out
    assert words.strip("; \n") in Path("report/index.html").read_text()


def test_a_mean_file(folder: Path) -> None:
    """Its image is subtracted, with --channel-means only its channel means."""
    mean = np.random.default_rng(2).random((3, 20, 20), dtype=np.float32) * 255
    write_mean(mean, "mean.binaryproto")
    np.save("mean.npy", mean)
    np.save("values.npy", mean.mean((1, 2), dtype=np.float64))
    values = ",".join(f"{value:.17g}" for value in mean.mean((1, 2), dtype=np.float64))
    found = {}
    for name, arguments in {
        "image": ["mean.binaryproto"],
        "npy": ["mean.npy"],
        "channels": ["mean.binaryproto", "--channel-means"],
        "numbers": [values],
        "values": ["values.npy"],
    }.items():
        assert evaluate("--mean", *arguments, "--input-scale", "0.02", "--output", "f.npz") == 0
        found[name] = posteriors.load("f.npz").values
    np.testing.assert_array_equal(found["image"], found["npy"])
    np.testing.assert_array_equal(found["channels"], found["numbers"])
    np.testing.assert_array_equal(found["channels"], found["values"])
    assert not np.allclose(found["image"], found["channels"], atol=1e-3)


def test_the_advice_about_preprocessing_works(folder: Path) -> None:
    assert evaluate("--preprocessing", "vgg") == 0


def test_damaged_posteriors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.npz").write_bytes(b"PK\x03\x04 no archive")
    assert main(["evaluate", "--ensemble", "a.npz"]) == 1
    np.savez("b.npz", names=np.array([b"x"]))
    assert main(["evaluate", "--ensemble", "b.npz"]) == 1
    err = capsys.readouterr().err
    assert "b.npz: this file holds no class posteriors" in err
    assert "Traceback" not in err


def test_a_folder_of_classes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        Path("classes", f"c{number}").mkdir(parents=True)
        Path("images", f"{number}.png").rename(Path("classes", f"c{number}", "image.png"))
    assert evaluate(*MEAN, "--data", "classes") == 0
    assert "6 images" in capsys.readouterr().out


def test_classify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("\n".join(f"class number {i}" for i in range(6)))
    files = ["images/0.png", "images/3.png"]
    common = ["--weights", "net.caffemodel", "--labels", "names.txt", *MEAN, "--scales", "16"]
    assert main(["classify", *files, *common, "--top", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [image["image"] for image in found] == files
    best = found[1]["classes"]
    assert best[0]["probability"] >= best[1]["probability"]
    assert best[0]["name"] == f"class number {best[0]['class']}"
    assert evaluate(*MEAN, "--protocol", "center", "--scales", "16", "--output", "a.npz") == 0
    assert best[0]["class"] == posteriors.load("a.npz").values[3].argmax()
    capsys.readouterr()
    assert main(["classify", *files, *common, "--picture", "picture.png"]) == 0
    out = capsys.readouterr().out
    assert f"class number {best[0]['class']}" in out
    picture = cv2.imread("picture.png")
    assert picture is not None
    assert picture.shape[0] == 300
    assert picture.shape[1] > 420


def test_names_of_classes_beside_the_weights(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["classify", "images/1.png", "--weights", "net.caffemodel", *MEAN, "--json"]
    Path("labels.txt").write_text("too\nfew\n")
    assert main(command) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)[0]["classes"]} == {""}
    Path("labels.txt").write_text("".join(f"class {i}\n" for i in range(6)))
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)[0]["classes"]
    assert [one["name"] for one in found] == [f"class {one['class']}" for one in found]


def test_classify_bad_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--weights", "net.caffemodel", *MEAN, "--scales", "16"]
    Path("bad.png").write_bytes(b"no image")
    assert main(["classify", "bad.png", *common]) == 1
    assert main(["classify", "none.png", *common]) == 1
    err = capsys.readouterr().err
    assert "'bad.png': it is not an image" in err
    assert "'none.png': it cannot be read" in err
    capsys.readouterr()
    both = ["bad.png", "images/2.png"]
    assert main(["classify", *both, *common, "--skip-corrupt", "--json", "--picture", "p.png"]) == 0
    found = capsys.readouterr()
    assert "'bad.png'" in found.err
    assert [one["image"] for one in json.loads(found.out.partition("\nwrote")[0])] == [both[1]]
    assert main(["classify", "bad.png", *common, "--skip-corrupt"]) == 1
    assert "none of the images can be read" in capsys.readouterr().err


def test_features_and_svm(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    write_images(folder / "many", 40, seed=5)
    common = ["--weights", "net.caffemodel", "--data", "many/list.txt", *MEAN]
    stack = ["--scales", "15,20", "--pooling", "stack"]
    assert main(["features", *common, *stack, "-o", "a.h5"]) == 0
    assert "40 descriptors of length 16 from blob 'fc6'" in capsys.readouterr().out
    found = load_features("a.h5")
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, rtol=1e-5)
    assert main(["features", *common, "--scales", "17", "--stack-with", "a.h5", "-o", "b.h5"]) == 0
    assert load_features("b.h5").features.shape == (40, 24)
    capsys.readouterr()
    assert main(["svm", "b.h5", "b.h5", "--cost", "1,100"]) == 0
    out = capsys.readouterr().out
    assert "C = 1: mean class recall" in out
    assert "trained on 40 images: mean class recall" in out
    assert main(["features", *common, "--scales", "17", "-o", "c.h5"]) == 0
    capsys.readouterr()
    assert main(["svm", "a.h5", "a.h5", "--stack-with", "c.h5", "c.h5", "--cost", "1,100"]) == 0
    assert capsys.readouterr().out == out
    assert main(["svm", "a.h5", "a.h5", "--stack-with", "c.h5"]) == 1
    assert "--stack-with has 1 files, expected 2" in capsys.readouterr().err
    write_images(folder / "few", 39)
    few = ["--data", "few/list.txt", "--scales", "17", "-o", "d.h5"]
    assert main(["features", *common, *few]) == 0
    assert main(["svm", "a.h5", "--stack-with", "d.h5"]) == 1
    assert "d.h5: its images and labels are not those" in capsys.readouterr().err
    assert main(["svm", "a.h5", "b.h5"]) == 1
    assert "have the length 16, the test features 24" in capsys.readouterr().err


def test_features_of_images_that_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images/2.png").write_bytes(b"no image")
    common = ["--weights", "net.caffemodel", "--data", "images/list.txt", *MEAN, "-o", "a.h5"]
    assert main(["features", *common]) == 1
    assert "'2.png': it is not an image" in capsys.readouterr().err
    assert main(["features", *common, "--skip-corrupt"]) == 0
    found = load_features("a.h5")
    assert found.names == tuple(f"{i}.png" for i in (0, 1, 3, 4, 5, 6))
    assert found.labels.tolist() == [0, 1, 3, 4, 5, 0]


def test_features_of_a_blob_that_is_not_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--weights", "net.caffemodel", "--data", "images/list.txt", *MEAN]
    assert main(["features", *common, "--blob", "fc7", "-o", "a.h5"]) == 1
    assert "no blob 'fc7' in this net" in capsys.readouterr().err
    assert not Path("a.h5").exists()


def test_optimized_nets_evaluate_alike(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*MEAN, "--protocol", "both", "--output", "plain.npz") == 0
    assert "engine" not in capsys.readouterr().err
    assert evaluate(*MEAN, "--protocol", "both", "--engine", "torch", "--output", "fast.npz") == 0
    assert "engine torch, fp32" in capsys.readouterr().err
    plain, fast = posteriors.load("plain.npz"), posteriors.load("fast.npz")
    np.testing.assert_allclose(fast.values, plain.values, rtol=1e-4, atol=1e-6)
    common = ["--weights", "net.caffemodel", *MEAN, "--data", "images/list.txt", "--scales", "15"]
    assert main(["features", *common, "-o", "plain.h5"]) == 0
    assert main(["features", *common, "--engine", "torch", "-o", "fast.h5"]) == 0
    assert "engine torch, fp32" in capsys.readouterr().err
    fast_values, plain_values = (load_features(f"{name}.h5").features for name in ("fast", "plain"))
    np.testing.assert_allclose(fast_values, plain_values, rtol=1e-4, atol=1e-5)
