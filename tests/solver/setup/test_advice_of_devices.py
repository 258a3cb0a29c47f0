"""A device that is refused, and the one that the message names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from caffecompat.cli.main import main
from caffecompat.errors import SolverError
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.solver import Solver
from caffecompat.solver.distributed.process_group import join_ranks
from caffecompat.solver.setup.compute import ComputeOptions
from caffecompat.solver.setup.device_choice import (
    checked_device,
    flagged_device,
    flagged_devices,
    rank_device,
)
from tests.solver.small import write_training

ON_CPU = "add --cpu to run on the CPU (in Python device='cpu'), or install torch with CUDA"
ON_CPU_WITHOUT_GPU = "give --cpu in its place to run on the CPU, or install torch with CUDA"


def have_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Has torch report ``count`` GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: count > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)


def solver_message(gpu: bool) -> Message:
    message = schema.new("SolverParameter")
    if gpu:
        message.solver_mode = schema.enum_names("SolverParameter.SolverMode")["GPU"]
    return message


@pytest.mark.parametrize(
    ("more", "flags"), [("solver_mode: GPU", []), ("", ["--gpu", "0"]), ("", ["--gpu", "all"])]
)
def test_no_gpu(
    more: str,
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_training(tmp_path, f"random_seed: 7 {more}")
    with monkeypatch.context() as patch:
        have_gpus(patch, 0)
        assert main(["train", "--solver", str(path), *flags]) == 1
        remedy = ON_CPU_WITHOUT_GPU if flags else ON_CPU
        assert f"cannot use a GPU here; {remedy}" in capsys.readouterr().err
        assert main(["train", "--solver", str(path), "--cpu"]) == 0
        with pytest.raises(SolverError) as caught:
            Solver(path, device=None if more else "cuda")
        assert str(caught.value).endswith(ON_CPU)
        assert Solver(path, device="cpu").net.device == torch.device("cpu")
    # With CUDA there are devices, as torch tells.
    have_gpus(monkeypatch, 1)
    assert flagged_devices("all") == flagged_devices("0") == [0]
    assert checked_device("cuda") == torch.device("cuda", 0)


def test_a_query_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verb has no flag for the CPU, and its message names none."""
    have_gpus(monkeypatch, 0)
    assert main(["device-query", "--gpu", "0"]) == 1
    said = capsys.readouterr().err
    assert "cannot use a GPU here; install torch with CUDA" in said
    assert "--cpu" not in said


def test_one_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpus(monkeypatch, 2)
    with pytest.raises(SolverError, match="only one GPU can be used at a time; give a single id"):
        flagged_device("0,1")
    assert [flagged_device("0"), flagged_device("1")] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("flag", ["x", "0;1", "0,,1"])
def test_ids_of_gpus(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpus(monkeypatch, 2)
    with pytest.raises(SolverError, match="give GPU ids such as 0 or 0,1, all, or none for the"):
        flagged_devices(flag)
    assert [flagged_devices(each) for each in ("0", "0,1", "all")] == [[0], [0, 1], [0, 1]]
    assert flagged_device("none") == "cpu"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1"])
def test_names_of_devices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpus(monkeypatch, 2)
    with pytest.raises(SolverError, match="no such device; use 'cpu', 'cuda' or 'cuda:1'"):
        checked_device("quantum")
    assert str(checked_device(name)).startswith(name)


@pytest.mark.parametrize("gpu", [False, True])
def test_a_rank_without_a_gpu(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpus(monkeypatch, 3)
    solver = solver_message(gpu)
    more = "start fewer ranks per machine, or name more GPUs with --gpu"
    with pytest.raises(SolverError) as caught:
        rank_device("0,1", solver, 2)
    assert str(caught.value) == f"rank 2 of this machine has no GPU, there are 2 for them; {more}"
    assert [rank_device("0,1", solver, rank) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert rank_device("0,1,2", solver, 2) == "cuda:2"
    for flag in ["all", "0,1,2", *[""] * gpu]:
        with pytest.raises(SolverError, match=r"for them; start fewer ranks per machine$"):
            rank_device(flag, solver, 3)
        assert rank_device(flag, solver, 2) == "cuda:2"


def test_cuda_graphs_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ComputeOptions(cuda_graph=True)
    with pytest.raises(SolverError, match="CUDA graphs need a GPU; give --gpu, or leave the flag"):
        options.check(torch.device("cpu"), 1, debug_info=False)
    have_gpus(monkeypatch, 1)
    options.check(checked_device(flagged_device("0") or "cpu"), 1, debug_info=False)
    ComputeOptions().check(torch.device("cpu"), 1, debug_info=False)


def test_a_backend_for_the_cpu() -> None:
    with pytest.raises(SolverError) as caught, join_ranks("cpu", backend="nccl"):
        pass
    assert str(caught.value) == (
        "backend 'nccl' works between GPUs, and the device is cpu; use 'gloo'"
    )
    with join_ranks("cpu", backend="gloo") as process_group:
        assert process_group.world_size == 1
