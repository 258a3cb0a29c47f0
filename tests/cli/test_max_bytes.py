"""``--max-bytes``: where a message advises it the verb has it, and it helps."""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from caffecompat import Net, Solver
from caffecompat.cli.main import load_verb, main, verb_names, verb_parser
from caffecompat.errors import FormatError
from caffecompat.weights import load_weights, save_weights
from tests.cli.files_to_read import write_files
from tests.sentences import advised_limit

IMAGE_NET = "--model deploy6.prototxt --weights w.pt --preprocessing none"
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
        write_files()
    return place


@pytest.fixture
def folder(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
