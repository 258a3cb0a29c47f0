"""``caffecompat train``, ``test``, ``time``, ``device-query``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.evaluate.score import score
from caffecompat.net import Net
from caffecompat.solver import Solver
from caffecompat.solver.setup.device_choice import checked_device, flagged_device, flagged_devices
from tests.places import COPIES
from tests.solver.log.caffe_log import PREFIX, assert_same_events
from tests.solver.small import write_training

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [PREFIX.sub("", line, count=1) for line in lines]


def test_scores_of_caffe(
    golden: Path, enter: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    enter(golden / "cli")
    command = "test --model=net.prototxt --weights=snap_step_iter_20.caffemodel --iterations=4"
    assert main(command.split()) == 0
    found = events(capsys)
    log = Path("logs/test.log").read_text().splitlines()
    expected = [PREFIX.sub("", line, count=1) for line in log if "caffe.cpp" in line]
    assert found[0] == expected[0] == "Use CPU."
    assert_same_events(found[found.index(expected[1]) :], expected[1:])


def test_scores_equal_the_solvers(tmp_path: Path) -> None:
    solver = Solver(write_training(tmp_path / "run"))
    expected = solver.test_all()[0]
    net = Net(tmp_path / "run" / "net.prototxt", solver.net.to_weights())
    assert score(net, 2) == expected
    with pytest.raises(SolverError, match="--iterations is -1"):
        score(net, -1)


def test_times_every_layer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_training(tmp_path)
    assert main(["time", "--model", f"{tmp_path}/net.prototxt", "--iterations", "3"]) == 0
    found = events(capsys)
    start = found.index("Average time per layer: ") + 1
    layers = ["data", "conv", "norm", "relu", "drop", "score", "loss"]
    for i, name in enumerate(layers):
        for j, direction in enumerate(("forward", "backward")):
            pattern = rf" *{name}\t{direction}: [\d.e+-]+ ms\."
            assert re.fullmatch(pattern, found[start + 2 * i + j])
    tail = ["Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total"]
    for line, words in zip(found[start + 14 :], tail, strict=False):
        assert line.startswith(words)
    assert found[-1] == "*** Benchmark ends ***"
    assert sum("forward-backward time" in line for line in found) == 3


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "train --solver a --on-nan=explode",
        "train --solver a --on-mismatch=maybe",
        "parse-log",
        "train --solver a --sigint_effect=quit",
        "train --solver a --nosuch=1",
        "train --solver a --level=high",
        "test --weights w",
        "test --model m",
        "time",
        "time --model m --phase=train",
    ],
)
def test_bad_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    assert "usage: caffecompat" in capsys.readouterr().err


def test_a_picture_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Caffe's own spelling of plot-log needs no -o, so that the parser cannot ask for it."""
    assert main(["plot-log", "a.log"]) == 2
    assert "-o FILE, the picture to write, is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train --solver none", "none: there is no such file"),
        ("train --solver step.solver.prototxt --weights none", "none: "),
        ("train --solver step.solver.prototxt --snapshot none", "none: there is no such solver"),
        (
            "train --solver step.solver.prototxt --weights b --snapshot c",
            "weights and snapshot are",
        ),
        ("train --solver net.prototxt", "net.prototxt: this looks like a net"),
        ("train --solver step.solver.prototxt --gpu x", "--gpu x: give GPU ids such as 0 or 0,1"),
        ("test --model none --weights init.caffemodel", "none: there is no such file"),
        ("test --model net.prototxt --weights none", "none: "),
        ("time --model none", "none: there is no such file"),
        (
            "test --model net.prototxt --weights init.caffemodel --iterations 0",
            "--iterations is 0, it must be at least 1",
        ),
        ("time --model net.prototxt --iterations 0", "--iterations is 0, it must be positive"),
    ],
)
def test_bad_input_is_one_sentence(
    command: str,
    sentence: str,
    enter: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter(COPIES / "cli")
    assert main(command.split()) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"caffecompat: error: {sentence}")


def test_a_missing_database_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path)
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text().replace("train_lmdb", "none_lmdb"))
    assert main(["train", "--solver", str(path)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "none_lmdb" in lines[0]


@needs_no_gpu
def test_fields_of_unknown_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = write_training(tmp_path / "run", more="random_seed: 7 warp_speed: 9")
    net = tmp_path / "run" / "net.prototxt"
    net.write_text(net.read_text().replace("dropout_ratio: 0.4", "dropout_ratio: 0.4 fork_only: 1"))
    assert main(["train", "--solver", str(solver)]) == 1
    assert "unknown field 'warp_speed'" in capsys.readouterr().err
    assert main(["train", "--solver", str(solver), "--lenient"]) == 0
    said = capsys.readouterr().err
    assert "skipped: unknown field 'warp_speed'" in said
    assert "skipped: unknown field 'fork_only'" in said


@pytest.mark.parametrize("gpu", ["0", "all", "0,1"])
def test_no_gpu_is_one_sentence(
    gpu: str,
    enter: Callable[[Path], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    enter(COPIES / "cli")
    for command in ("train --solver step.solver.prototxt", "device-query"):
        if gpu == "all" and command == "device-query":
            continue
        assert main([*command.split(), f"-gpu={gpu}"]) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(lines) == 1
        assert f"--gpu {gpu}" in lines[0]
        remedy = (
            "install torch with CUDA" if command == "device-query" else "give --cpu in its place"
        )
        assert f"torch {torch.__version__} cannot use a GPU here; {remedy}" in lines[0]


@needs_no_gpu
@pytest.mark.parametrize("flags", [[], ["-gpu", "all"]])
def test_device_query_without_gpus(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device_query", *flags]) == 0
    assert events(capsys) == ["Querying GPUs all", f"no CUDA device; torch {torch.__version__}"]


@pytest.mark.parametrize("flag", ["--cpu", "--gpu=none", "-gpu -1", "--gpu cpu"])
def test_a_gpu_solver_on_the_cpu(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path, "random_seed: 7 solver_mode: GPU")
    path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 1"))
    assert main(["train", "--solver", str(path), *flag.split()]) == 0
    assert "Use CPU." in events(capsys)
    for command in ("test", "time"):
        more = ["--weights", f"{tmp_path}/snap_iter_1.caffemodel"] if command == "test" else []
        net = f"--model={tmp_path}/net.prototxt"
        assert main([command, net, *more, "--iterations=1", *flag.split()]) == 0


def test_devices() -> None:
    assert flagged_devices("") == []
    assert flagged_device("") is None
    assert checked_device("cpu") == torch.device("cpu")
    with pytest.raises(SolverError, match="device 'quantum': there is no such device; use 'cpu'"):
        checked_device("quantum")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs are equal, a resumed run is too, and the losses are those of the CPU."""
    path = write_training(tmp_path / "run")
    cpu, first, second = Solver(path), Solver(path, device="cuda"), Solver(path, device="cuda")
    losses = []
    for solver in (cpu, first, second):
        solver.solve()
        losses.append(solver.loss)
    assert losses[1] == losses[2] == pytest.approx(losses[0], rel=1e-3)
    resumed = Solver(path, snapshot=tmp_path / "run" / "snap_iter_10.solverstate", device="cuda")
    resumed.solve()
    for ours, theirs in zip(resumed.net.learnable, first.net.learnable, strict=True):
        assert torch.equal(ours.tensor, theirs.tensor)
    assert main(["device-query", "--gpu", "0"]) == 0
    assert torch.cuda.get_device_name(0) in capsys.readouterr().err
