"""The verb localise: both protocols, pictures, bad input."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.proto.text.printer import format_text
from tests.evaluate.localisation.small import box_model, write_boxes
from tests.evaluate.small import NET, small_model

MEAN = ["--mean", "104,117,123", "--input-scale", "0.02"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with boxes, nets, and the posteriors of one net."""
    place = tmp_path_factory.mktemp("localise")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _write_files()
    return place


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_files() -> None:
    write_boxes(Path("images"))
    for name, per_class in (("pcr", True), ("scr", False)):
        model = box_model(per_class)
        Path(f"{name}.prototxt").write_text(format_text(model.definition.message))
        model.net().save(f"{name}.caffemodel")
    Path("deploy.prototxt").write_text(NET)
    small_model().net().save("net.caffemodel")
    data = ["--data", "images/list.txt", "--scales", "17", "--output", "found.npz"]
    weights = ["--weights", "net.caffemodel", "--model", "deploy.prototxt"]
    assert main(["evaluate", *weights, *data, *MEAN]) == 0


def localise(*arguments: str, kind: str = "pcr") -> int:
    given = ["--weights", f"{kind}.caffemodel", "--model", f"{kind}.prototxt"]
    return main(
        ["localise", *given, "--boxes", "images/boxes.txt", "--scales", "17", *MEAN, *arguments]
    )


@pytest.mark.parametrize("kind", ["pcr", "scr"])
def test_both_protocols(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert localise("--protocol", "gt-crop", kind=kind) == 0
    out = capsys.readouterr().out
    assert "7 images; true class, central crop at scale 17; smooth interpolation, not " in out
    assert re.search(r"  localisation error of the true class \d+\.\d\d %", out)
    flags = ["--posteriors", "found.npz", "--no-flip", "--output", "boxes.h5"]
    assert localise(*flags, kind=kind) == 0
    out = capsys.readouterr().out
    assert (
        "7 images; dense at scale 17; no flips; merged up to a match score (distance-overlap, not "
        "overlap or distance) of 0.5; mean of predictions, not pairs; scored by the posterior of "
        "the image, not of each window; smooth interpolation, not bilinear, bicubic or area; "
        "longer side rounded to the nearest pixel, not down\n" in out
    )
    assert re.search(r"  top-5 localisation error \d+\.\d\d %, top-5 error \d+\.\d\d %", out)
    with h5py.File("boxes.h5") as file:
        assert file["boxes"].shape == (7, 5, 4)


def test_several_nets_and_window_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("nets.txt").write_text(
        "# two nets\n--weights pcr.caffemodel --model pcr.prototxt\n"
        "--weights scr.caffemodel --model scr.prototxt --scales 15,19 "
        "--score-weights net.caffemodel --score-model deploy.prototxt\n"
    )
    more = ["--match", "overlap", "--match-threshold", "0.3", "--merge-average", "pairs"]
    assert localise("--nets", "nets.txt", "--posteriors", "found.npz", "found.npz", *more) == 0
    out = capsys.readouterr().out
    assert "dense at scale 17; 15, 19; with flips; merged up to a match score (overlap, not " in out


def test_pictures(folder: Path) -> None:
    Path("names.txt").write_text("".join(f"class {i}\n" for i in range(6)))
    flags = ["--draw", "pictures", "--labels", "names.txt", "--top", "1"]
    assert localise("--posteriors", "found.npz", *flags) == 0
    names = sorted(path.name for path in Path("pictures").iterdir())
    assert names == [f"{n + 1:06}-{n}.png" for n in range(7)]
    # The first image has one true box; its corners are green unless a prediction covers them.
    words = Path("images/boxes.txt").read_text().splitlines()[0].split()
    left, top, right, bottom = map(int, words[2:])
    drawn = cv2.imread("pictures/000001-0.png")
    before = cv2.imread("images/0.png")
    assert drawn is not None
    assert before is not None
    assert drawn.shape == before.shape
    red = (drawn == (0, 0, 255)).all(2)
    green = (drawn == (0, 200, 0)).all(2)
    assert red.any()
    for y, x in ((top, left), (top, right), (bottom, left), (bottom, right)):
        assert green[y, x] or red[max(y - 14, 0) : y + 1, :].any()
    outside = np.ones(green.shape, bool)
    outside[top : bottom + 1, left : right + 1] = False
    assert not (green & outside).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--boxes", ""], "--boxes is missing; give the list of images that convert-boxes writes"),
        (["--protocol", "gt-crop", "--weights", ""], "give the weights of a net for boxes"),
        ([], "--protocol full predicts the classes by --posteriors FILE, which"),
        (["--posteriors", "none.npz"], "none.npz: "),
        (["--posteriors", "images/boxes.txt"], "images/boxes.txt: "),
        (["--protocol", "gt-crop", "--boxes", "none.txt"], "none.txt: "),
        (["--protocol", "gt-crop", "--boxes", "images/list.txt"], "line 1 has 2 words, expected"),
        (["--protocol", "gt-crop", "--scales", "9"], "--scales: 9 is smaller than the 14x10"),
        (["--protocol", "gt-crop", "--scales", "17,19"], "a central crop is taken at one"),
        (["--protocol", "gt-crop", "--root", "/none"], "line 1, image '0.png'"),
        (["--protocol", "gt-crop", "--nets", "twice.txt"], "lists 2 nets, but --protocol gt-crop"),
        (["--posteriors", "found.npz", "--nets", "empty.txt"], "empty.txt: it lists no nets"),
        (["--posteriors", "found.npz", "--nets", "wrong.txt"], "wrong.txt:2: argument --scales"),
        (["--posteriors", "found.npz", "--match-threshold", "-1"], "expected 0 or more: equal"),
        (["--posteriors", "found.npz", "--match-threshold", "nan"], "--match-threshold is nan"),
        (["--posteriors", "found.npz", "--top", "0"], "--top is 0, expected 1 or more classes"),
        (
            ["--protocol", "gt-crop", "--weights", "net.caffemodel", "--model", "deploy.prototxt"],
            "the net has 6 outputs for each image, which is no multiple of 4",
        ),
        (["--protocol", "gt-crop", "--draw", "images/0.png"], "images/0.png: the folder cannot"),
    ],
)
def test_bad_input(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text("# nothing\n")
    Path("wrong.txt").write_text("\n--scales x\n")
    Path("twice.txt").write_text("--scales 17\n--scales 18\n")
    capsys.readouterr()
    assert localise(*arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_images_without_posteriors_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("images/boxes.txt").read_text()
    Path("images/boxes.txt").write_text(text.replace("3.png", "../images/3.png"))
    assert localise("--posteriors", "found.npz") == 1
    error = capsys.readouterr().err
    assert "image '../images/3.png' has no class posteriors in the file of --posteriors" in error
