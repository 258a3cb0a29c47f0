"""Signals at the start and at the end of a training, and the command that goes on."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from caffecompat.cli.main import load_verb, main, verb_parser
from caffecompat.cli.resuming import _program, resume_command
from caffecompat.solver import Action, SignalActions
from caffecompat.weights import load_weights
from tests.places import REPOSITORY
from tests.programs import Program, run_program
from tests.solver.small import write_training

# Sends itself a signal when the libraries of a training begin to be loaded.
AT_START = """
import os, signal, sys

# Those of a new Python have not been loaded yet; a fork may have them.
sys.modules.pop("caffecompat.solver", None)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "caffecompat.solver":
            for number in sys.argv[1].split(","):
                os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Finder())
from caffecompat.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def at_start(*arguments: str, numbers: tuple[int, ...]) -> list[str]:
    """The arguments for Python."""
    listed = ",".join(str(int(number)) for number in numbers)
    return ["-c", AT_START, listed, "train", *arguments]


@pytest.mark.parametrize(
    ("number", "flags", "code"),
    [
        (signal.SIGTERM, [], 75),
        (signal.SIGINT, [], 1),
        (signal.SIGHUP, ["--sighup-effect=stop"], 1),
    ],
)
def test_a_stop_before_the_training(
    number: int, flags: list[str], code: int, tmp_path: Path
) -> None:
    """The solver is never read: the process ends on the spot."""
    (tmp_path / "solver.prototxt").write_text("no solver")
    solver = f"--solver={tmp_path / 'solver.prototxt'}"
    command = [sys.executable, *at_start(solver, *flags, numbers=(number,))]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    name = signal.Signals(number).name
    sentence = f"caffecompat: error: stopped by {name} before the training had begun\n"
    assert (result.returncode, result.stderr) == (code, sentence)


def test_a_signal_that_asks_for_nothing_yet(tmp_path: Path) -> None:
    path = write_training(tmp_path)
    path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 1"))
    numbers = (signal.SIGHUP, signal.SIGINT)
    flags = (f"--solver={path}", "--sigint-effect=none")
    result = run_program(at_start(*flags, numbers=numbers), timeout=120)
    assert result.returncode == 0
    assert "caffecompat: SIGHUP: there is nothing to snapshot yet" in result.stderr
    assert (tmp_path / "snap_iter_1.solverstate").exists()


def test_signals_that_were_held_back() -> None:
    numbers = {signal.SIGINT, signal.SIGHUP, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        # To this thread: others of the process may not hold it back.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        with SignalActions(Action.STOP, Action.SNAPSHOT) as signals:
            assert signals.stop_requested()
            assert signals.requested() is Action.PREEMPT
            assert not signals.stop_requested()
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.stop_requested()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def parsed(*words: str) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = verb_parser("train", load_verb("train"))
    return parser, parser.parse_args(list(words))


def test_the_command_that_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffecompat.cli.resuming._program", lambda: ["caffecompat"])
    flags = ["--solver", "my solver.prototxt", "--gpu", "0,1", "--auto-iter-size", "--level", "2"]
    parser, arguments = parsed(*flags, "--weights", "a.caffemodel", "--layers", "conv*")
    line = resume_command(parser, arguments, "snap_iter_5.solverstate")
    expected = [*flags[:4], "--auto-iter-size", "--level", "2"]
    words = shlex.split(line)
    assert words[:2] == ["caffecompat", "train"]
    assert words[-2:] == ["--snapshot", "snap_iter_5.solverstate"]
    assert sorted(words[2:-2]) == sorted(expected)
    again = parser.parse_args(words[2:])
    for name in ("solver", "gpu", "auto_iter_size", "level"):
        assert getattr(again, name) == getattr(arguments, name)
    parser, arguments = parsed("--solver", "s", "--cpu")
    assert resume_command(parser, arguments, "x") == (
        "caffecompat train --solver s --gpu none --snapshot x"
    )


def test_how_the_program_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _program(["/x/caffecompat/__main__.py"]) == [sys.executable, "-m", "caffecompat"]
    script = tmp_path / "caffecompat"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert _program([str(script)]) == [str(script)]
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert _program([str(script)]) == ["caffecompat"]


def test_the_command_works_to_the_letter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on after Ctrl-C and ends with the weights of an undisturbed training."""
    whole = write_training(tmp_path / "whole")
    assert main(["train", f"--solver={whole}", "--gpu=none"]) == 0
    assert "Optimization Done." in capsys.readouterr().err
    path = write_training(tmp_path / "run")
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr(
            SignalActions,
            "requested",
            lambda self: Action.STOP if next(asked) == 9 else Action.NONE,
        )
        assert main(["train", f"--solver={path}", "--gpu=none"]) == 0
    said = capsys.readouterr().err
    assert "Optimization Done." not in said
    last = said.splitlines()[-1]
    assert "Stopped at iteration " in last
    words = shlex.split(last.split("To go on: ")[1])
    assert words[-2] == "--snapshot"
    assert main(words[words.index("train") :]) == 0
    folders = (tmp_path / "whole", tmp_path / "run")
    ours, theirs = (load_weights(folder / "snap_iter_12.caffemodel") for folder in folders)
    for one, other in zip(ours.layers, theirs.layers, strict=True):
        assert all((a == b).all() for a, b in zip(one.blobs, other.blobs, strict=True))


def test_a_snapshot_at_or_beyond_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_training(tmp_path)
    assert main(["train", f"--solver={path}"]) == 0
    capsys.readouterr()
    path.write_text(path.read_text().replace("max_iter: 12", "max_iter: 8"))
    state = tmp_path / "snap_iter_12.solverstate"
    assert main(["train", f"--solver={path}", f"--snapshot={state}"]) == 0
    sentence = "nothing to do: this training is at iteration 12 already, and max_iter is 8; raise"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--solver x.prototxt --gpu 0", "caffecompat train --solver x.prototxt --gpu 0"),
        ("-solver=x.prototxt", "caffecompat train -solver=x.prototxt"),
        ("--model m --weights w", "caffecompat test --model m --weights w"),
    ],
)
def test_a_forgotten_verb(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"caffecompat: did you forget the verb? {line}\n"


def test_a_file_without_a_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my net.prototxt").write_text('input: "x" input_shape { dim: 2 dim: 3 }')
    assert main(["my net.prototxt"]) == 2
    found = re.search("did you forget the verb[?] caffecompat (.*)\n", capsys.readouterr().err)
    assert found is not None
    assert main(shlex.split(found[1])) == 0
    assert main(["other net.prototxt"]) == 2
    assert "unknown verb 'other net.prototxt'" in capsys.readouterr().err


def test_a_misspelt_verb_is_not_a_forgotten_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainn", "--solver", "x"]) == 2
    assert "unknown verb 'trainn'; did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.1, 0.3])
def test_two_interrupts_leave_no_traceback(apart: float, tmp_path: Path) -> None:
    text = """net: "{folder}/net.prototxt" base_lr: 0.01 lr_policy: "fixed" random_seed: 1
        max_iter: 100000000 snapshot_prefix: "{folder}/snap" """
    path = write_training(tmp_path, "", text)
    said = ""
    with Program(["-m", "caffecompat", "train", f"--solver={path}"]) as process:
        for line in process.stderr:
            said += line
            if "Learning Rate Policy" in line:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(apart)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 1, -signal.SIGINT)
    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
