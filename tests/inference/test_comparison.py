"""Programs side by side: ``caffecompat time --engines`` and the bench of inference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from caffecompat.cli.main import main
from caffecompat.errors import ExportError, UnknownName
from caffecompat.export.opencv.repeated import TimedOpenCv
from caffecompat.inference.comparison import ComparisonOptions, Contender, compare
from tests.export.passes.models import net_text
from tests.inference.engine_nets import SHAPE, built
from tests.inference.small_net import SMALL
from tools.bench import inference, known_nets

QUICK = ComparisonOptions(turns=2, seconds=0)


def test_each_program_has_a_time_or_a_reason() -> None:
    found = {one.name: one for one in compare(built(SMALL), options=QUICK)}
    assert list(found) == [
        "torch",
        "torch-optimized",
        "onnxruntime",
        "openvino",
        "opencv",
        "fastest",
    ]
    for one in found.values():
        assert one.milliseconds or "needs an extra" in one.note or "has no OpenCV" in one.note
    assert found["torch-optimized"].milliseconds
    assert found["fastest"].milliseconds
    assert found["fastest"].note.startswith("takes ")


def test_unknown_programs() -> None:
    with pytest.raises(UnknownName, match="did you mean 'openvino'"):
        compare(built(SMALL), ["torch", "openvyno"])


def test_an_opencv_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be started"):
        TimedOpenCv(str(tmp_path / "python"))


def test_a_model_that_opencv_cannot_read(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with TimedOpenCv() as opencv, pytest.raises(ExportError, match="OpenCV"):
        opencv.load(tmp_path / "bad.onnx", None, {"data": (1, 3)}, 1)


def test_time_prints_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(net_text(SHAPE, *SMALL))
    command = ["time", "--model", str(path), "--engines"]
    assert main([*command, "torch,torch-optimized"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["program", "version", "ms", "ratio", "note"]
    assert [line.split()[0] for line in lines[1:]] == ["torch", "torch-optimized"]
    assert lines[1].split()[-1] == "1.00"
    assert main([*command, "torch,nosuch"]) == 1
    assert "unknown program to compare 'nosuch'" in capsys.readouterr().err


def test_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inference, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(inference.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(inference, "known_net", lambda name: built(SMALL))
    target = tmp_path / "result.json"
    words = ["--nets", "mobilenet", "--batches", "2", "--turns", "1", "--seconds", "0"]
    words += ["--programs", "torch,torch-optimized,fastest", "--threads", "1", "--processes", "1"]
    table = tmp_path / "result.md"
    monkeypatch.setattr(sys, "argv", ["", *words, "--json", str(target), "--markdown", str(table)])
    assert inference.main() == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "| mobilenet | 2" in line)
    (case,) = json.loads(target.read_text())["cases"]
    times = {one["name"]: one["milliseconds"] for one in case["processes"][0]}
    assert case["optimized"] == [times["torch-optimized"] / times["torch"]]
    assert case["fastest"] == [times["fastest"] / times["torch"]]
    written = table.read_text()
    assert row in written.splitlines()
    monkeypatch.setattr(sys, "argv", ["", "--read", str(target)])
    assert inference.main() == 0
    assert capsys.readouterr().out == written


def test_the_bench_measures_each_case_in_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    milliseconds = iter([4.0, 1.0, 2.0])
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        programs = [Contender("torch", 2.0), Contender("fastest", next(milliseconds))]
        case = inference.Case("mobilenet", 5, "bf16", [programs])
        target = Path(command[command.index("--json", command.index("--batches")) + 1])
        inference.Run("machine", 1, False, "fp32", "2.13.0", [case]).write(target)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(inference.subprocess, "run", run)
    words = ["--batches", "5", "--nets", "mobilenet", "--threads", "1", "--processes", "3"]
    monkeypatch.setattr(sys, "argv", ["", *words, "--programs", "torch,fastest"])
    assert inference.main() == 0
    assert "| mobilenet | 5 | 2 | 2 | - | 1.00 (0.50 to 2.00) |" in capsys.readouterr().out
    assert len(commands) == 3
    for command in commands:
        monkeypatch.setattr(sys, "argv", command[1:])
        own = inference.parse()
        assert (own.nets, own.batches, own.processes) == (["mobilenet"], [5], 1)
        assert (own.threads, own.programs) == (1, ["torch", "fastest"])


def test_the_bench_ends_with_the_code_of_a_process_that_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--nets", "nosuch", "--batches", "x", "--processes", "2"]
    monkeypatch.setattr(sys, "argv", ["", *words])
    with pytest.raises(SystemExit) as ended:
        inference.measured_apart("nosuch", 1)
    assert ended.value.code == 2
    assert "argument --batches: invalid numbers value: 'x'" in capfd.readouterr().err


def test_the_ratios_of_the_bench() -> None:
    times = {"torch": 8.0, "torch-optimized": 6.0, "openvino": 4.0, "opencv": 2.0, "fastest": 3.0}
    programs = [Contender(name, each) for name, each in times.items()]
    programs.append(Contender("onnxruntime", None, note="is not installed"))
    single = inference.Case("vgg16", 1, "fp32", [programs])
    assert (single.ratios("torch-optimized"), single.ratios("fastest")) == ([3.0], [1.5])
    half = inference.Case("vgg16", 1, "bf16", [programs])
    assert half.ratios("fastest") == [0.75]
    assert inference.Case("vgg16", 1, "fp32", [programs[1:2]]).ratios("fastest") == []


def test_times_of_the_bench_are_medians_of_programs_that_run_in_all_processes() -> None:
    processes = [
        [Contender("openvino", openvino), Contender("opencv", opencv)]
        for openvino, opencv in ((2.0, 4.0), (10.0, 4.0), (4.0, None))
    ]
    assert inference.Case("vgg16", 1, "fp32", processes).times == {"openvino": 4.0}


@pytest.mark.parametrize("name", list(known_nets.NETS))
def test_the_nets_of_the_bench_can_be_built(name: str) -> None:
    from caffecompat.net import Net
    from tests.net.nets import message

    net = Net(message(known_nets.NETS[name]()), shapes_only=True)
    assert net.outputs == ["prob"]
    assert net.blobs["prob"].shape[:2] == (1, 1000)
