"""tools/gpu_check.py without a GPU, and the page that is written from its result."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.programs import run_program
from tools import gpu_check
from tools.bench import gpu_report
from tools.gpu import all_stages as stages_module
from tools.gpu import marked_tests, training_speed
from tools.gpu.all_stages import (
    Outcome,
    Stage,
    all_stages,
    caches,
    marked_files,
    plan,
    run_stage_process,
)
from tools.gpu.one_stage import Work


class Command(Stage):
    """A stage that runs a line of Python, with the file for its rows as argument."""

    def command(self, device: str, small: bool, rows: Path) -> list[str]:
        return [sys.executable, "-c", self.module, str(rows)]


ROW = {"what": "sum", "value": "wrong", "passed": False, "figures": {}}
WRITES = f"import sys; open(sys.argv[1], 'w').write({json.dumps([ROW])!r}); sys.exit(1)"


def check(folder: Path, stages: list[Stage], *more: str) -> tuple[int, dict[str, Any]]:
    arguments = ["--device", "cpu", "--small", "--out", str(folder), *more]
    code = gpu_check.main(arguments, stages)
    return code, json.loads((folder / "result.json").read_text())


def test_it_goes_on_after_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sleeps = "import time; print('begun', flush=True); time.sleep(60)"
    stages: list[Stage] = [
        Command("slow", 0.7, sleeps),
        Command("crash", 20, "import sys; sys.exit('no such kernel')"),
        Command("wrong", 20, WRITES),
        Command("right", 20, "pass"),
    ]
    code, result = check(tmp_path, stages)
    assert code == 1
    statuses = {stage["name"]: stage["status"] for stage in result["stages"]}
    expected = {"slow": "TIMED OUT", "crash": "FAILED", "wrong": "FAILED", "right": "passed"}
    assert statuses == expected
    assert result["stages"][2]["rows"] == [ROW]
    table = capsys.readouterr().out
    for words in ("| begun", "| no such kernel", "FAILED  wrong", "1 of 4 stages passed"):
        assert words in table


def test_a_spent_budget_leaves_stages_out(tmp_path: Path) -> None:
    code, result = check(tmp_path, [Command("right", 20, "pass")], "--budget", "1")
    assert code == 0
    assert [stage["status"] for stage in result["stages"]] == ["left out"]


def test_a_stage_at_the_end_of_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is cut short, which is no failure, and the table says how to run it."""
    sleeps = "import time; print('begun', flush=True); time.sleep(60)"
    stages: list[Stage] = [Command("long", 1.9, sleeps), Command("late", 20, "pass")]
    code, result = check(tmp_path, stages, "--budget", "1.2")
    assert code == 0
    assert [stage["status"] for stage in result["stages"]] == ["cut short", "left out"]
    printed = capsys.readouterr().out
    assert (
        "1 s are enough for the first 0 of 2 stages in any case; if time is left: long" in printed
    )
    assert "| begun" in printed
    assert "0 of 0 stages passed, 1 left out for lack of time, 1 cut short" in printed
    assert "for the rest: --only long,late" in printed


def test_a_signal_ends_it_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(stage: Stage, command: Any, rows: Path, *rest: Any) -> Outcome:
        rows.write_text(json.dumps([{**ROW, "passed": None, "value": "12 ms"}]))
        if stage.name == "second":
            raise KeyboardInterrupt
        return Outcome(stage.name, "passed", 0.1, json.loads(rows.read_text()))

    monkeypatch.setattr(stages_module, "run_stage_process", interrupted)
    code, result = check(tmp_path, [Command(name, 9, "") for name in ("first", "second", "third")])
    assert code == 0
    assert [stage["status"] for stage in result["stages"]] == ["passed", "cut short", "left out"]
    assert result["stages"][1]["rows"][0]["value"] == "12 ms"
    printed = capsys.readouterr().out
    assert printed.count("12 ms") == 2
    assert "for the rest: --only second,third" in printed


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments = ["--device", "cpu", "--out", str(tmp_path / "file" / "out")]
    assert gpu_check.main(arguments, [Command("right", 20, "pass")]) == 0
    (made,) = tmp_path.glob("gpu_check_*/result.json")
    printed = capsys.readouterr().out
    assert f"cannot be written (Not a directory); the results go to {made.parent}" in printed
    assert str(made) in printed


def test_where_compiled_kernels_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_CACHE_DIR", raising=False)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert caches(tmp_path / "out") == {}
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    name = "TRITON_CACHE_DIR"
    assert caches(tmp_path / "out") == {name: str(tmp_path / "out" / "compiled" / "triton")}
    monkeypatch.setenv(name, "own")
    assert caches(tmp_path / "out") == {}


def test_speeds_are_handed_on_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is stopped keeps what tools/bench/train.py has measured until then."""
    work = Work("cpu", True, tmp_path / "speed.json")
    measured = {"what": "step", "ours": 1.0, "plain": 2.0, "ratio": 2.0, "images_per_second": 3.0}
    whole = {"net": "A", "batch": 1, "precision": "fp32"}
    rows: list[str] = []

    class Measuring:
        def __init__(self, command: list[str], **more: Any) -> None:
            self.file, self.looks = Path(command[command.index("--json") + 1]), 0

        def poll(self) -> int | None:
            self.looks += 1
            text = json.dumps({**whole, "rows": [measured] * (self.looks // 2)})
            # A look may find half of a file.
            self.file.write_text(text if self.looks != 3 else text[:9])
            assert len(rows) >= min(1, (self.looks - 2) // 2)
            return 0 if self.looks == 6 else None

    monkeypatch.setattr(training_speed.subprocess, "Popen", Measuring)
    monkeypatch.setattr(training_speed, "_POLL", 0)
    for row in training_speed.default(work):
        rows.append(row.value)
    assert rows == ["2.000 × (1000.0 ms, 3 images/s)"] * 3


def test_warnings_of_marked_tests() -> None:
    text = """..
=== warnings summary ===
tests/test_one.py::test_a
  /place/one.py:12: UserWarning: allow_tf32 is old; use another
    torch.backends.cudnn.allow_tf32 = False

-- Docs: https://docs.pytest.org
"""
    (row,) = marked_tests._warnings(text)
    assert (row.value, row.passed) == ("UserWarning: allow_tf32 is old; use another", None)


def test_the_most_valuable_stages_fit_into_the_budget() -> None:
    stages = all_stages()
    text = plan(stages, 540)
    sure = text.partition("; if time is left: ")[2].split(", ")
    names = [stage.name for stage in stages]
    first = {"machine", "kernels", "speed", "switched-parts", "graph", "repeated"}
    assert set(names) - set(sure) >= first
    assert plan(stages[:2], 540) == "540 s are enough for the first 2 of 2 stages in any case"


def test_the_cheapest_stages(tmp_path: Path) -> None:
    """The whole way of a real stage: its arguments, its rows, its exit code."""
    kernels, graph = (s for s in all_stages() if s.name in ("kernels", "graph"))
    code, result = check(tmp_path, [graph])
    assert code == 0
    (stage,) = result["stages"]
    assert stage["status"] == "passed"
    rows = tmp_path / "rows.json"
    assert run_program(kernels.command("cpu", True, rows)[1:]).returncode == 0
    for found in (stage["rows"], json.loads(rows.read_text())):
        assert [row["value"].replace("need ", "needs ") for row in found] == ["needs a GPU"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_stage_ends_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    stage = Stage("parent", 3, "")
    assert run_stage_process(stage, command, tmp_path / "rows.json", 3, {}).bad
    process, deadline = int(note.read_text()), time.monotonic() + 20
    while is_running(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(process)


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--out", str(tmp_path / "out")], []) == 0
    assert "torch finds no GPU here" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_names_of_stages() -> None:
    names = [stage.name for stage in all_stages()]
    assert len(set(names)) == len(names)
    chosen = gpu_check._choose(all_stages(), "tests,memory", "tests:device")
    assert {"tests:precision", "memory"} <= {stage.name for stage in chosen}
    assert "tests:device" not in {stage.name for stage in chosen}
    with pytest.raises(SystemExit, match="no stage memroy"):
        gpu_check._choose(all_stages(), "memroy", "")


def test_the_test_that_has_a_stage_of_its_own() -> None:
    """pytest says nothing where there is no such test."""
    path, _, name = marked_tests.RECORDED.partition("::")
    assert f"def {name}(" in (marked_tests.ROOT / path).read_text()


def test_marked_files_are_found() -> None:
    found = {path.name for path in marked_files()}
    assert {"test_device.py", "test_precision.py", "test_array_view.py"} <= found
    assert {"test_kernels.py", "test_self_check.py"} <= found
    assert "test_registry.py" not in found


def test_marked_tests_need_few_packages() -> None:
    """Those that tools/gpu_check.sh names; a machine with a GPU may have no others."""
    hidden = ("hypothesis", "xdist", "onnx", "onnxruntime", "plyvel", "scipy", "skimage", "PIL")
    program = (
        "import sys\n"
        "class Hidden:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {hidden}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hidden)\n"
        "import pytest\n"
        "sys.exit(pytest.main(sys.argv[1:]))\n"
    )
    files = [str(path) for path in marked_files()]
    options = ["-q", "--collect-only", "-m", "gpu", "-p", "no:cacheprovider"]
    options += ["-p", "no:hypothesispytest", "-p", "no:xdist"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *options, *files],
        cwd=marked_tests.ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "test_training_follows_the_cpu" in ended.stdout


def result_of(device: str) -> dict[str, Any]:
    card: dict[str, Any] = {"what": "card", "value": "a GPU", "passed": None, "figures": {}}
    speed = {"what": "step", "value": "1.1 ×", "passed": None, "figures": {"ratio": 1.1}}
    stages = [
        {"name": "machine", "status": "passed", "rows": [card]},
        {"name": "wrong", "status": "FAILED", "rows": [ROW]},
        {"name": "speed", "status": "passed", "rows": [speed]},
    ]
    return {"started": "2026-01-02 03:04:05", "device": device, "small": False, "stages": stages}


@pytest.mark.parametrize(("device", "figures"), [("cpu", False), ("cuda", True)])
def test_the_report(device: str, figures: bool, tmp_path: Path) -> None:
    result, page = tmp_path / "result.json", tmp_path / "page.md"
    result.write_text(json.dumps(result_of(device)))
    page.write_text(f"before\n{gpu_report.BEGIN}\nold\n{gpu_report.END}\nafter\n")
    assert gpu_report.main([str(result), "--page", str(page)]) == 0
    text = page.read_text()
    assert gpu_report.main([str(result), "--page", str(page)]) == 0
    assert page.read_text() == text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "2 of 3 stages passed on 2026-01-02." in text
    assert "| `wrong` | FAILED; 0 of 1 checks passed: sum: wrong |" in text
    assert ("| step | 1.1 × |" in text) == figures
    assert ("Not measured yet; tried on the CPU" in text) != figures


def test_a_page_without_the_markers(tmp_path: Path) -> None:
    result, page = tmp_path / "result.json", tmp_path / "page.md"
    result.write_text(json.dumps(result_of("cpu")))
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="are missing"):
        gpu_report.main([str(result), "--page", str(page)])
    assert page.read_text() == "nothing"
