"""Commands on images and models that are refused, and the same ones changed as advised."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from tests.evaluate.small import NET, small_model, write_images

MODEL = "--weights net.caffemodel"
IMAGES = "--data images/list.txt --scales 15"
MEAN = "--mean 104,117,123 --input-scale 0.02"
EVALUATE = f"evaluate {MODEL} {IMAGES} {MEAN}"
CLASSIFY = f"classify images/1.png {MODEL} {MEAN} --scales 16"

# A command, the words of its refusal, the same command as the words advise.
CASES = [
    (
        f"evaluate {MODEL} {IMAGES}",
        "give --preprocessing vgg (or caffenet, digits, none), or --mean B,G,R",
        [
            f"evaluate {MODEL} {IMAGES} --preprocessing vgg",
            f"evaluate {MODEL} {IMAGES} --preprocessing none",
            EVALUATE,
        ],
    ),
    (
        f"{CLASSIFY} --labels two.txt",
        "two.txt: it has 2 lines, but the net has 6 classes; give a file with one line for each",
        [f"{CLASSIFY} --labels six.txt"],
    ),
    (
        f"{CLASSIFY} --precision int8",
        "--precision int8 is for optimized nets; add --optimize, and --calibration PROTOTXT",
        [f"{CLASSIFY} --precision int8 --optimize --calibration calibration.prototxt"],
    ),
    (
        f"evaluate {MODEL} {MEAN} --scales 15 --report report",
        "--report needs the images: give --data",
        [f"evaluate {MODEL} {MEAN} {IMAGES} --report report"],
    ),
    (
        f"evaluate {MODEL} {MEAN} --scales 15 --data images --no-labels",
        "images without labels have no error; give --output FILE for their posteriors",
        [f"evaluate {MODEL} {MEAN} --scales 15 --data images --no-labels --output w.npz"],
    ),
    (
        f"{EVALUATE} --ensemble nothing.txt",
        "it lists no members; each line is an .npz, an .h5, or has arguments",
        [f"{EVALUATE} --ensemble members.txt"],
    ),
    (
        "summary net.prototxt --shape data",
        "write data=3x227x227",
        ["summary net.prototxt --shape data=3x14x10"],
    ),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, images and lists of names."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images")
    Path("deploy.prototxt").write_text(NET)
    Path("net.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "data" data_param { source: "none" batch_size: 2 } }'
    )
    Path("calibration.prototxt").write_text(
        'layer { name: "d" type: "ImageData" top: "data" top: "label" image_data_param { '
        'source: "images/list.txt" root_folder: "images/" new_height: 14 new_width: 10 '
        "batch_size: 4 } }"
    )
    small_model().net().save("net.caffemodel")
    Path("two.txt").write_text("a\nb\n")
    Path("six.txt").write_text("a\nb\nc\nd\ne\nf\n")
    Path("nothing.txt").write_text("# nothing\n")
    return tmp_path


def run(words: str) -> int:
    """The exit code of a verb."""
    try:
        return main(shlex.split(words))
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_what_a_refusal_advises_runs(
    case: tuple[str, str, list[str]], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad, words, fixes = case
    if "int8" in bad:
        pytest.importorskip("onnxruntime")
    if "members.txt" in fixes[0]:
        for suffix in ("npz", "h5"):
            assert run(f"{EVALUATE} --output before.{suffix}") == 0
        Path("members.txt").write_text(f"before.npz\nbefore.h5\n{MODEL} --scales 16\n")
    capfd.readouterr()
    assert run(bad) != 0
    said = capfd.readouterr().err
    assert words in said, said
    for fix in fixes:
        assert run(fix) == 0, capfd.readouterr().err


def test_weights_without_a_net_in_a_project(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command that the doctor shows for them takes the flag that its note names."""
    Path("alone").mkdir()
    Path("net.caffemodel").rename("alone/net.caffemodel")
    run("doctor alone")
    shown = capfd.readouterr().out
    assert "there is no net beside it; give its prototxt with --model" in shown
    command = next(line for line in shown.splitlines() if "caffecompat inspect " in line)
    words = command[command.index("inspect ") :]
    assert run(f"{words} --model deploy.prototxt") == 0, capfd.readouterr().err


def test_the_module_of_a_python_layer_in_a_project(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("project").mkdir()
    net = Path("project/net.prototxt")
    net.write_text(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 } } }\n'
        'layer { name: "own" type: "Python" bottom: "data" top: "out"\n'
        '  python_param { module: "advised_module" layer: "Own" } }\n'
    )
    assert run("doctor project") == 1
    assert "which is not in this project; get its file, or write the" in capfd.readouterr().out
    Path("project/advised_module.py").write_text(
        "import caffe\n\n\nclass Own(caffe.Layer):\n"
        "    def setup(self, bottom, top):\n        pass\n\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(2)\n\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = bottom[0].data\n"
    )
    assert run("doctor project") == 0
    assert "allow it with --allow-python" in capfd.readouterr().out
