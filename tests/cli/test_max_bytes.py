"""``--max-bytes``: where a message advises it the verb has it, and it helps."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pytest
import torch

from caffecompat import Net, Solver
from caffecompat.cli.main import load_verb, main, verb_names, verb_parser
from caffecompat.errors import FormatError
from caffecompat.weights import load_weights, save_weights
from caffecompat.weights.mean_file import write_mean
from tests.sentences import advised_limit

NET = """
name: "small"
layer { name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param { source: "list.txt" root_folder: "images/" batch_size: 2 } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 2 snapshot_prefix: "snap"
random_seed: 1
"""
WINDOWS = NET.replace("ImageData", "WindowData").replace(
    'image_data_param { source: "list.txt" root_folder: "images/" batch_size: 2 }',
    'window_data_param { source: "windows.txt" root_folder: "images/" batch_size: 2 } '
    "transform_param { crop_size: 4 }",
)
ROWS = """
layer { name: "rows" type: "HDF5Data" top: "x" hdf5_data_param { source: "h5.txt" batch_size: 1 } }
"""
DEPLOY = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "score" type: "InnerProduct" bottom: "data" top: "score"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
"""
IMAGE_NET = "--model deploy6.prototxt --weights w.pt --preprocessing none"
LOG = """\
I0210 13:39:19.381449 25210 solver.cpp:280] Solving small
I0210 13:39:20.381449 25210 solver.cpp:204] Iteration 0, loss = 1.5
I0210 13:39:21.381449 25210 solver.cpp:219]     Train net output #0: loss = 1.5 (* 1 = 1.5 loss)
I0210 13:39:22.381449 25210 sgd_solver.cpp:106] Iteration 0, lr = 0.01
"""
LIMITS = {
    "prototxt": {"caffecompat.proto.files.MAX_PROTOTXT_BYTES": 10},
    "text": {"caffecompat.input_files.MAX_TEXT_BYTES": 10},
    "claims": {
        "caffecompat.input_files.CLAIM_FACTOR": 0,
        "caffecompat.input_files.CLAIM_ALLOWANCE": 300,
    },
}

# A command, and the limits that it can meet.
COMMANDS = [
    (f"classify images/first.png {IMAGE_NET}", "prototxt claims"),
    (
        "classification deploy6.prototxt w.pt mean.binaryproto words.txt images/first.png",
        "prototxt claims",
    ),
    ("convert w.pt out.npz", "claims"),
    ("convert-annoset images/ list.txt out", "text"),
    (
        "convert-annoset images/ annotated.txt out --anno-type detection --label-map-file "
        "labelmap.prototxt",
        "prototxt text",
    ),
    ("convert w.caffemodel out.npz --model net.prototxt", "prototxt text"),
    ("convert-annoset images/ list.txt out", "text"),
    ("convert-boxes annotations labels.txt out", "text"),
    ("convert-cifar-data cifar10 out", "text"),
    ("convert-imageset images/ list.txt out", "text"),
    ("convert-imageset images/ words.txt out --labels labels.txt", "text"),
    ("convert-mnist-data images.gz labels.gz out", "claims"),
    ("convert-mnist-siamese-data images.gz labels.gz out", "claims"),
    ("dataset import cifar10 cifar10 out", "text"),
    ("dataset import mnist images.gz labels.gz out", "claims"),
    ("dataset show --net net.prototxt out.png", "prototxt text"),
    ("dataset show --net net.prototxt --labels labels.txt out.png", "text"),
    ("deploy net.prototxt deploy.prototxt", "prototxt text"),
    (
        "detect images/first.png --model found.prototxt --weights found.caffemodel --mean 0 "
        "--labelmap labelmap.prototxt",
        "prototxt text",
    ),
    ("diff net.prototxt net.prototxt", "prototxt"),
    ("diff w.pt w.pt", "claims"),
    ("doctor case.prototxt", "prototxt"),
    ("doctor solver.prototxt", "prototxt"),
    ("draw deploy6.prototxt net.html --force", "prototxt"),
    ("draw net.prototxt net.html --weights w.pt --force", "claims"),
    ("draw-net net.prototxt net.dot", "prototxt"),
    (f"evaluate --data list.txt --root images {IMAGE_NET}", "prototxt text claims"),
    ("extract-features w.pt net.prototxt score scores 1 lmdb", "prototxt text claims"),
    ("extract-seconds train.log out.txt", "text"),
    (f"features --data list.txt --root images -o f.h5 {IMAGE_NET}", "prototxt text claims"),
    ("graph net.prototxt", "prototxt text"),
    ("inspect net.prototxt", "prototxt text"),
    ("inspect solver.prototxt", "prototxt"),
    ("inspect w.pt", "claims"),
    ("inspect w.pt --model net.prototxt", "prototxt text claims"),
    (
        "localise --weights box.caffemodel --model box.prototxt --mean 0 --boxes boxes.txt "
        "--root images --protocol gt-crop --scales 6",
        "prototxt text",
    ),
    ("parse-log train.log", "text"),
    ("plot-log train.log -o out.png", "text"),
    ("resize-and-crop-images --input-folder images --output-folder out --input names.txt", "text"),
    ("summarize net.prototxt", "prototxt"),
    ("summary net.prototxt", "prototxt text"),
    ("summary rows.prototxt --phase TRAIN", "prototxt text"),
    ("summary windows.prototxt", "prototxt text"),
    ("test --model net.prototxt --weights w.pt --iterations 1", "prototxt text claims"),
    ("time --model net.prototxt --weights w.pt --iterations 1", "prototxt text claims"),
    ("train --solver solver.prototxt --weights w.pt", "prototxt text claims"),
    ("upgrade-net net.prototxt out.prototxt", "prototxt"),
    ("upgrade-solver solver.prototxt out.prototxt", "prototxt"),
    ("verify --recorded case.prototxt", "prototxt claims"),
]
# Verbs that read databases and images alone, whose limits follow from their content, or nothing.
WITHOUT = {"compute-image-mean", "device-query", "install-caffe-command", "layers"}


Result = TypeVar("Result")
# The files that one of the commands reads, at most.
MOST_FILES = 6


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read."""
    place = tmp_path_factory.mktemp("max_bytes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _write_images()
        Path("net.prototxt").write_text(NET)
        Path("windows.prototxt").write_text(WINDOWS)
        Path("deploy6.prototxt").write_text(DEPLOY)
        Path("rows.prototxt").write_text(ROWS)
        Path("solver.prototxt").write_text(SOLVER)
        Path("train.log").write_text(LOG)
        _write_databases()
        _write_rows()
        net = Net("net.prototxt", phase="train")
        net.save("w.pt")
        net.save("w.caffemodel")
        net.close()
        _write_snapshot()
        _write_case()
        _write_boxes()
    return place


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_images() -> None:
    os.mkdir("images")
    for name in ("first.png", "second.png"):
        assert cv2.imwrite(f"images/{name}", np.full((6, 6, 3), 40, np.uint8))
    write_mean(np.zeros((3, 6, 6)), "mean.binaryproto")
    Path("list.txt").write_text("first.png 0\nsecond.png 1\n")
    Path("words.txt").write_text("first.png cat\nsecond.png dog\n")
    Path("names.txt").write_text("first.png\nsecond.png\n")
    Path("labels.txt").write_text("cat\ndog\nanother one\n")
    boxes = "2\n1 0.9 0 0 4 4\n0 0.1 0 0 5 5\n"
    Path("windows.txt").write_text(f"# 0\nfirst.png\n3\n6\n6\n{boxes}")


def _write_databases() -> None:
    pixels = np.zeros((4, 28, 28), np.uint8)
    heads = {"images": (2051, 4, 28, 28), "labels": (2049, 4)}
    for name, head in heads.items():
        content = pixels if name == "images" else np.array([0, 1, 0, 1], np.uint8)
        data = b"".join(number.to_bytes(4, "big") for number in head) + content.tobytes()
        Path(f"{name}.gz").write_bytes(gzip.compress(data))
    os.mkdir("cifar10")
    for name in [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]:
        Path("cifar10", name).write_bytes(bytes(3073))


def _write_rows() -> None:
    import h5py

    with h5py.File("rows.h5", "w") as file:
        file["x"] = np.zeros((2, 3), np.float32)
    Path("h5.txt").write_text("rows.h5 rows.h5\n")
    with h5py.File("features.h5", "w") as file:
        file["features"] = np.eye(6, 40, dtype=np.float32)
        file["labels"] = np.array([0, 1, 0, 1, 0, 1])


def _write_snapshot() -> None:
    """A snapshot in HDF5 under the prefix of a solver."""
    settings = SOLVER.replace('"snap"', '"start"') + "snapshot_format: HDF5"
    Path("h5.solver.prototxt").write_text(settings)
    Path("first.solver.prototxt").write_text(settings.replace("max_iter: 2", "max_iter: 1"))
    solver = Solver("first.solver.prototxt")
    solver.solve()
    solver.close()


def _write_case() -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 30 } } }
    layer { name: "y" type: "ReLU" bottom: "x" top: "y" }
    """
    Path("case.prototxt").write_text(text)
    ones = np.ones((2, 30), np.float32)
    np.savez("case.npz", **{"in/x": ones, "out/y": ones})  # type: ignore[arg-type]


def _write_boxes() -> None:
    os.mkdir("annotations")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
    Path("annotations/first.xml").write_text(f"<a><object><name>cat</name>{box}</object></a>")
    Path("boxes.txt").write_text("first.png 0 1 1 3 3\n")
    text = """
    layer { name: "data" type: "Input" top: "data"
      input_param { shape { dim: 1 dim: 3 dim: 6 dim: 6 } } }
    layer { name: "box" type: "InnerProduct" bottom: "data" top: "box"
      inner_product_param { num_output: 4 } }
    """
    Path("box.prototxt").write_text(text)
    Net("box.prototxt").save("box.caffemodel")
    rows = (
        text.replace("num_output: 4", "num_output: 7")
        + """
    layer { name: "rows" type: "Reshape" bottom: "box" top: "rows"
      reshape_param { shape { dim: 1 dim: 1 dim: 1 dim: 7 } } }
    """
    )
    Path("found.prototxt").write_text(rows)
    Net("found.prototxt").save("found.caffemodel")
    Path("labelmap.prototxt").write_text('item { name: "cat" label: 1 }')
    shutil.copy("annotations/first.xml", "images/first.xml")
    Path("annotated.txt").write_text("first.png first.xml\n")


@pytest.mark.parametrize(
    ("command", "limit"),
    [(command, limit) for command, limits in COMMANDS for limit in limits.split()],
)
def test_the_flag_is_there_and_helps_where_a_message_advises_it(
    command: str,
    limit: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    capfd.readouterr()
    for name, value in LIMITS[limit].items():
        monkeypatch.setattr(name, value)
    words = command.split()
    if words[0] == "convert-mnist-siamese-data":
        pytest.importorskip("plyvel", reason="it writes a LevelDB, which needs plyvel")
    assert main(words) == 1
    said = "".join(capfd.readouterr())
    # Under limits as small as here, each of several files may have a message of its own.
    for _ in range(MOST_FILES):
        advice = advised_limit(said)
        if main([*words, *advice]) == 0:
            return
        said = "".join(capfd.readouterr())
        assert int(advised_limit(said)[1]) > int(advice[1])
    raise AssertionError(said)


@pytest.mark.parametrize("snapshot", ["start_iter_1.solverstate.h5", "auto"])
def test_the_flag_is_the_limit_of_snapshots(
    snapshot: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--solver", "h5.solver.prototxt", "--snapshot", snapshot]
    capfd.readouterr()
    # More than the prototxts and the list have.
    assert main([*words, "--max-bytes", "600"]) == 1
    error = capfd.readouterr().err
    assert "the limit of 600 for such a file; if you trust the file, add --max-bytes" in error
    assert "start_iter_1." in error
    assert main([*words, *advised_limit(error)]) == 0


def test_the_flag_is_the_limit_of_features(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["svm", "features.h5", "features.h5", "--cost", "1"]
    assert main([*words, "--max-bytes", "600"]) == 1
    assert main([*words, *advised_limit(capfd.readouterr().err)]) == 0


def test_the_flag_is_the_limit_of_files_that_doctor_examines(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", "start_iter_1.caffemodel.h5"]
    assert main([*words, "--max-bytes", "600"]) == 1
    assert main([*words, *advised_limit(capfd.readouterr().out)]) == 0


def test_every_verb_with_the_flag_is_tried() -> None:
    have = {name for name in verb_names() if "--max-bytes" in _flags(name)}
    assert have == {command.split()[0] for command, _ in COMMANDS} | {"svm"}
    assert set(verb_names()) - have == WITHOUT


def _flags(name: str) -> str:
    parser = verb_parser(name, load_verb(name))
    texts = [parser.format_help()]
    parsers = [parser]
    while parsers:
        for action in parsers.pop()._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
                texts += [one.format_help() for one in action.choices.values()]
    return "".join(texts)


def test_the_limit_is_lifted_in_python_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limits in LIMITS.values():
        for name, value in limits.items():
            monkeypatch.setattr(name, value)
    # Claims of lists are their lines, which no flag lifts.
    monkeypatch.setattr("caffecompat.input_files.CLAIM_ALLOWANCE", 1000)
    big = torch.nn.Linear(60, 60).weight.detach()
    torch.save({"big.weight": big}, "big.pt")
    lifted(lambda **limit: Net("net.prototxt", **limit)).close()
    solver = lifted(lambda **limit: Solver("solver.prototxt", **limit))
    solver.step(1)
    solver.close()
    net = lifted(lambda **limit: Net("case.prototxt", **limit))
    assert "big" in lifted(lambda **limit: load_weights("big.pt", **limit))
    small = Net("case.prototxt", max_bytes=1000)
    for one in (net, small):
        found = lifted(lambda one=one, **limit: one.load_weights("big.pt", lenient=True, **limit))
        assert not found.loaded
    save_weights(net.to_weights(), "empty.npz")


def lifted(call: Callable[..., Result]) -> Result:
    """The result of a call with the ``max_bytes`` that its message advises."""
    limit: dict[str, int] = {}
    for _ in range(MOST_FILES):
        with pytest.raises(FormatError) as caught:
            call(**limit)
        limit = {"max_bytes": int(advised_limit(str(caught.value))[1])}
        with contextlib.suppress(FormatError):
            return call(**limit)
    raise AssertionError(str(caught.value))


@pytest.mark.parametrize("verb", ["graph", "inspect", "summarize", "summary"])
def test_a_dash_is_standard_input(
    verb: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    text = Path("case.prototxt").read_text()
    assert _run_with(monkeypatch, text, verb, "-") == 0
    assert "ReLU" in capsys.readouterr().out
    assert _run_with(monkeypatch, text + "layer {", verb, "-") == 1
    assert "standard input:4:" in capsys.readouterr().err
    assert _run_with(monkeypatch, text, verb, "-", "--max-bytes", "20") == 1
    assert "standard input: " in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["upgrade-net", "upgrade-solver"])
@pytest.mark.parametrize("binary", [False, True])
def test_the_upgrades_read_standard_input(
    verb: str,
    binary: bool,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    if verb == "upgrade-net":
        data = b"\x0a\x03one" if binary else b'name: "one"'
    else:
        # Field 5 is base_lr.
        data = b"\x2d\x00\x00\x80\x3f" if binary else b"base_lr: 1"
    assert _run_with(monkeypatch, data, verb, "-", "out") == 0
    assert "standard input is in today's form already" in capsys.readouterr().out
    assert Path("out").exists()
    if binary:
        assert Path("out").read_bytes() == data
    assert _run_with(monkeypatch, b"\xff\x00\x01", verb, "-", "none") == 1
    assert "standard input: " in capsys.readouterr().err
    assert not Path("none").exists()


def _run_with(monkeypatch: pytest.MonkeyPatch, given: str | bytes, *words: str) -> int:
    data = given.encode() if isinstance(given, str) else given
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    return main(list(words))


def test_more_than_protobuf_reads_is_refused_without_advice_that_cannot_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffecompat.proto.files.MAX_BINARY_BYTES", 4)
    source = tmp_path / "n.bin"
    source.write_bytes(b"\x0a\x03one")
    words = ["upgrade-net", str(source), str(tmp_path / "out"), "--max-bytes", "1000"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "5 bytes, more than the 4 that a binary message can have" in error
    assert "max-bytes" not in error
