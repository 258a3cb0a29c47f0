"""Messages of training: what they name, and that their advice leads to a running job."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import DataError, FileProblem, LayerError, NetError, SolverError
from caffecompat.net import Net
from caffecompat.net.allocation import explain_allocation, is_out_of_memory, zeros
from caffecompat.solver import Solver
from caffecompat.solver.diagnostics.label_check import check_labels
from caffecompat.solver.estimate.forecast import _divisors
from caffecompat.solver.snapshots.snapshot_files import SnapshotFiles
from tests.solver.log.caffe_log import Lines
from tests.solver.small import write_training


def change(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def no_memory(*shape: object, **options: object) -> torch.Tensor:
    raise RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 900 bytes. Error code 12 (Cannot allocate memory)"
    )


def test_a_batch_that_no_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_training(tmp_path)
    built = Net(tmp_path / "net.prototxt", phase="train")
    with monkeypatch.context() as patch:
        patch.setattr("caffecompat.net.allocation.torch.zeros", no_memory)
        patch.setattr("caffecompat.net.allocation.available", lambda device: 5000)
        sentence = (
            r"layer 'data' \(Data\): out of memory: a blob of 3x3x5x5 needs 900 B, 4.88 KiB are"
        )
        with pytest.raises(LayerError, match=sentence + r" free; about batch_size \d would fit"):
            zeros(built.layers[0], (3, 3, 5, 5), torch.device("cpu"), built.layers)
    with pytest.raises(RuntimeError) as caught:
        no_memory()
    assert is_out_of_memory(caught.value)
    error = explain_allocation(built.layers, torch.device("cpu"), caught.value)
    assert "layer 'data' (Data): out of memory: a blob of 3x3x5x5 needs 900 B" in str(error)
    conv = next(layer for layer in built.layers if layer.name == "conv")
    monkeypatch.setattr(conv.layer, "forward", no_memory)
    with pytest.raises(NetError, match="out of memory: a blob of 3x3x5x5 needs 900 B"):
        built.run(0)


def test_divisors_of_a_large_batch() -> None:
    """Only they are tried as parts of a batch, however large it is."""
    assert _divisors(12) == [1, 2, 3, 4, 6, 12]
    assert _divisors(99999999)[-2:] == [33333333, 99999999]


def test_a_negative_rate(tmp_path: Path, lines: Lines) -> None:
    path = write_training(tmp_path)
    change(path, ("base_lr: 0.05", "base_lr: -0.05"))
    Solver(path)
    (warning,) = lines.containing("base_lr is -0.05")
    assert "the loss rises" in warning


def test_a_label_beyond_the_classes(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    change(tmp_path / "net.prototxt", ("num_output: 3", "num_output: 2"))
    solver = Solver(path)
    with pytest.raises(DataError, match="label 2 of 'label' is none of its 2 classes") as caught:
        solver.solve()
    assert "the labels of all 11 records reach 2: make num_output 3, or" in str(caught.value)
    change(tmp_path / "net.prototxt", ("num_output: 2", "num_output: 3"))
    Solver(path).solve()


def test_a_label_beyond_the_classes_of_a_large_database(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_training(tmp_path)
    change(tmp_path / "net.prototxt", ("num_output: 3", "num_output: 1"))
    monkeypatch.setattr("caffecompat.solver.diagnostics.label_check._MOST_RECORDS", 2)
    solver = Solver(path)
    with pytest.raises(DataError, match="is none of its 1 classes, expected 0 to 0; ") as caught:
        solver.solve()
    text = str(caught.value)
    assert "the labels of the first 2 of 11 records reach 2: make num_output at least 3 " in text
    found = re.search(r"\(caffecompat (dataset info .*) lists all labels\)", text)
    assert found is not None
    assert main(shlex.split(found[1])) == 0
    assert "labels: 3 different, 0 to 2" in capsys.readouterr().out
    change(tmp_path / "net.prototxt", ("num_output: 1", "num_output: 3"))
    Solver(path).solve()


def test_labels_that_leave_most_classes_unused(tmp_path: Path) -> None:
    write_training(tmp_path)
    net = tmp_path / "net.prototxt"
    change(net, ("num_output: 3", "num_output: 1000"), ("batch_size: 3", "batch_size: 11"))
    (remark,) = check_labels(Net(net, phase="train"), 0)
    assert "the 22 labels of the first 2 batches reach only 2, but there are 1000 classes" in remark
    assert "layer 'loss'" in remark
    change(net, ("batch_size: 11", "batch_size: 3"))
    assert check_labels(Net(net, phase="train"), 0) == []
    change(net, ("num_output: 1000", "num_output: 4"), ("batch_size: 3", "batch_size: 11"))
    assert check_labels(Net(net, phase="train"), 0) == []


def test_fewer_records_than_a_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_training(tmp_path)
    change(tmp_path / "net.prototxt", ("batch_size: 3", "batch_size: 9"))
    change(path, ("max_iter: 12", "max_iter: 1"))
    assert main(["train", "--solver", str(path)]) == 0
    said = capsys.readouterr().err
    assert "the training data has 11 records, fewer than the 18 images of one iteration" in said


def test_a_missing_mean_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command of the message makes the file, its folder too."""
    path = write_training(tmp_path)
    mean = f"{tmp_path}/means of it/mean.binaryproto"
    change(tmp_path / "net.prototxt", ("mean_value: 110", f'mean_file: "{mean}"'))
    change(path, ("max_iter: 12", "max_iter: 1"))
    assert main(["train", "--solver", str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "net.prototxt:3: layer 'data' (Data)" in error
    command = error.split("run: ")[1]
    assert main(shlex.split(command)[1:]) == 0
    assert main(["train", "--solver", str(path)]) == 0


def test_a_mistake_in_the_wiring_has_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path)
    change(
        tmp_path / "net.prototxt", ('bottom: "norm" top: "score"', 'bottom: "norn" top: "score"')
    )
    assert main(["train", "--solver", str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"net\.prototxt:\d+: layer 'score' \(InnerProduct\): unknown bottom", error)


def test_a_net_that_is_seen_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_training(tmp_path)
    change(path, (f'net: "{tmp_path}/net.prototxt"', 'net: "models/net.prototxt"'))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileProblem) as caught:
        Solver(path)
    for words in (f"{path}: net: models/net.prototxt: there is no such file", str(tmp_path)):
        assert words in str(caught.value)


def test_a_folder_that_is_missing_or_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new folder"
    with pytest.raises(SolverError) as caught:
        SnapshotFiles(f"{folder}/snap", False).check_writable("solver")
    found = re.search(r"make the folder \((mkdir -p .*)\), or change", str(caught.value))
    assert found is not None
    Path(shlex.split(found[1])[2]).mkdir()
    SnapshotFiles(f"{folder}/snap", False).check_writable("solver")
    (tmp_path / "file").write_text("")
    with pytest.raises(SolverError, match="file is a file, move it away"):
        SnapshotFiles(f"{tmp_path}/file/snap", False).check_writable("solver")


@pytest.mark.parametrize(
    ("number", "advice"),
    [(13, "give yourself the right to write there"), (28, "free some space there")],
)
def test_a_folder_where_nothing_can_be_written(
    number: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(SolverError, match=advice) as caught:
        SnapshotFiles(f"{tmp_path}/snap", False).check_writable("solver")
    assert "make the folder" not in str(caught.value)
