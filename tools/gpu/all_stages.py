"""The stages of tools/gpu_check.py in order of value, and how one of them is run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PASSED, FAILED, TIMED_OUT, LEFT_OUT = "passed", "FAILED", "TIMED OUT", "left out"
# It was given less than its time box, at the end of the budget, and was not done.
CUT_SHORT = "cut short"
# The last characters of a stage's output that are kept.
_TAIL = 4000
# What a test file with tests for a GPU holds: the mark, or the devices of the kernels' tests.
_SIGNS = ("pytest.mark.gpu" + "\n", "pytest.mark.gpu" + ",", "import " + "DEVICES")
# A CPU is slower than these boxes assume, and a trial on it may have other work beside it.
_LONGER_ON_A_CPU = 4
# Seconds for the tests of a file. Those of the kernels compile some 300 variants of them.
_TESTS, _LONG = 25, {"kernels": 120}
# A stage is not started with less than this part of its time box.
_LEAST = 0.5


@dataclass(frozen=True)
class Stage:
    """A module of tools/gpu, or one of its checks, as a process of its own.

    Attributes:
        name: in the table, and for ``--only``.
        seconds: the most that it may take.
        module: in tools/gpu, with a ``main`` of :func:`tools.gpu.one_stage.run_stage`.
        check: one check of the module; empty for all.
        argument: for the check.
    """

    name: str
    seconds: float
    module: str
    check: str = ""
    argument: str = ""

    def command(self, device: str, small: bool, rows: Path) -> list[str]:
        command = [sys.executable, "-m", f"tools.gpu.{self.module}"]
        command += ["--device", device, "--json", str(rows)]
        command += ["--small"] if small else []
        command += ["--only", self.check] if self.check else []
        return command + (["--argument", self.argument] if self.argument else [])


@dataclass
class Outcome:
    """What a stage has given.

    Attributes:
        status: "passed", "FAILED", "TIMED OUT", "cut short" or "left out".
        rows: see :class:`tools.gpu.one_stage.Row`; those that were written before its end.
        tail: the end of its output, if it did not pass.
    """

    name: str
    status: str
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    tail: str = ""

    @property
    def bad(self) -> bool:
        return self.status in (FAILED, TIMED_OUT)


def all_stages(device: str = "cuda") -> list[Stage]:
    """Every stage, the most valuable first, with the time boxes of the device."""
    stages = _stages()
    if device == "cuda":
        return stages
    return [replace(stage, seconds=_LONGER_ON_A_CPU * stage.seconds) for stage in stages]


def _stages() -> list[Stage]:
    tests = [_tests(path) for path in marked_files()]
    long = [stage for stage in tests if stage.seconds > _TESTS]
    short = [stage for stage in tests if stage.seconds <= _TESTS]
    return [
        Stage("machine", 30, "machine"),
        Stage("kernels", 45, "trainings", "kernels"),
        Stage("speed", 75, "training_speed", "default"),
        Stage("switched-parts", 75, "switched_parts"),
        Stage("fused", 40, "trainings", "fused"),
        Stage("graph", 35, "trainings", "captured"),
        Stage("layers", 60, "layer_cases", "agree"),
        Stage("repeated", 50, "trainings", "repeated"),
        Stage("speed-lmdb", 75, "training_speed", "LMDB"),
        Stage("convolutions", 55, "convolutions"),
        Stage("top-kernels", 30, "top_kernels"),
        *short,
        Stage("layers-twice", 45, "layer_cases", "twice"),
        Stage("cpu", 45, "trainings", "beside the CPU"),
        Stage("memory", 45, "memory"),
        Stage("host-waits", 30, "host_waits"),
        Stage("fp16", 15, "trainings", "scaled loss"),
        Stage("ranks", 45, "ranks"),
        *long,
        Stage("speed-eager", 60, "training_speed", "eager"),
        Stage("inference", 75, "inference", "eager"),
        Stage("compile", 75, "trainings", "compiled"),
        Stage("speed-compiled", 130, "training_speed", "compiled"),
        Stage("inference-onnx", 45, "inference", "ONNX Runtime"),
        Stage("inference-tensorrt", 90, "inference", "TensorRT"),
        Stage("inference-compiled", 120, "inference", "compiled"),
    ]


def _tests(path: Path) -> Stage:
    name = path.stem.removeprefix("test_")
    return Stage(f"tests:{name}", _LONG.get(name, _TESTS), "marked_tests", argument=str(path))


def marked_files() -> list[Path]:
    """The test files with tests that are marked ``gpu``, from the root of the checkout."""
    return [
        path.relative_to(ROOT)
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if any(sign in path.read_text() for sign in _SIGNS)
    ]


def run_stage_process(
    stage: Stage, command: Sequence[str], rows: Path, seconds: float, environment: Mapping[str, str]
) -> Outcome:
    """Runs a stage's command for ``seconds`` at most, and reads the rows that it has written."""
    log = rows.with_suffix(".log")
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    spent = time.perf_counter() - started
    found = _read(rows)
    status = TIMED_OUT if code is None else FAILED if code else PASSED
    text = log.read_text(errors="replace")
    return Outcome(stage.name, status, spent, found, "" if status == PASSED else text[-_TAIL:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a stage with all processes that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(rows: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(rows.read_text())
    except (OSError, ValueError):
        return []
    return found


def run_all(
    stages: Sequence[Stage],
    out: Path,
    device: str,
    small: bool,
    budget: float,
    after_each: Callable[[list[Outcome]], None],
) -> list[Outcome]:
    """Runs the stages one after the other, whatever becomes of each.

    Args:
        budget: seconds for all; a stage that would begin later is left out.
        after_each: is given what there is after each stage.

    A KeyboardInterrupt ends the running stage, whose rows are kept, and leaves out the others.
    """
    print(plan(stages, budget), flush=True)
    deadline = time.perf_counter() + budget
    environment = caches(out)
    outcomes: list[Outcome] = []
    stopped = False
    for stage in stages:
        left = deadline - time.perf_counter()
        if stopped or left < _LEAST * stage.seconds:
            outcomes.append(Outcome(stage.name, LEFT_OUT))
            after_each(outcomes)
            continue
        print(f"== {stage.name} (up to {min(stage.seconds, left):.0f} s)", flush=True)
        rows = out / f"{stage.name.replace(':', '-')}.json"
        rows.unlink(missing_ok=True)
        command = stage.command(device, small, rows)
        started = time.perf_counter()
        try:
            outcome = run_stage_process(stage, command, rows, min(stage.seconds, left), environment)
        except KeyboardInterrupt:
            stopped = True
            spent = time.perf_counter() - started
            outcome = Outcome(stage.name, CUT_SHORT, spent, _read(rows))
        if outcome.status == TIMED_OUT and left < stage.seconds:
            outcome.status = CUT_SHORT
        print(f"   {outcome.status} after {outcome.seconds:.1f} s", flush=True)
        outcomes.append(outcome)
        after_each(outcomes)
    return outcomes


def caches(out: Path) -> dict[str, str]:
    """Variables for the compiled kernels, which all stages share, where the usual folder is closed.

    Triton and torch.compile would fail otherwise. Nothing where they are set, or not needed.
    """
    usual = {
        "TRITON_CACHE_DIR": Path("~/.triton/cache").expanduser(),
        "TORCHINDUCTOR_CACHE_DIR": Path(tempfile.gettempdir()),
    }
    return {
        name: str(out / "compiled" / name.partition("_")[0].lower())
        for name, folder in usual.items()
        if name not in os.environ and not _can_be_written(folder)
    }


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, which may not be there yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def plan(stages: Sequence[Stage], budget: float) -> str:
    """Which stages fit into the budget if each takes all of its time box."""
    spent, sure = 0.0, 0
    for stage in stages:
        spent += stage.seconds
        if spent > budget:
            break
        sure += 1
    text = f"{budget:.0f} s are enough for the first {sure} of {len(stages)} stages in any case"
    rest = ", ".join(stage.name for stage in stages[sure:])
    return f"{text}; if time is left: {rest}" if rest else text
