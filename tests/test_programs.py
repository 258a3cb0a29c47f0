"""Programs that are forks end, answer and listen as a new Python does."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.programs import Program, run_program


def test_each_way_to_start(tmp_path: Path) -> None:
    text = "import os, sys; print(__name__, sys.argv[1:], os.getcwd(), os.environ['X'])\n"
    (tmp_path / "own.py").write_text(text)
    for arguments in (["-c", text], ["-m", "own"], ["own.py"]):
        done = run_program([*arguments, "a", "-b"], tmp_path, {"X": "7"})
        expected = f"__main__ ['a', '-b'] {tmp_path} 7\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_torch_is_there_at_the_start() -> None:
    done = run_program(["-c", "import sys; print('torch' in sys.modules, 'caffe' in sys.modules)"])
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a sentence')", 1, "a sentence\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_exit_codes(code: str, status: int, said: str) -> None:
    done = run_program(["-c", code])
    assert (done.returncode, done.stderr) == (status, said)


def test_an_exception_shows_its_traceback() -> None:
    done = run_program(["-c", "1 / 0"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_program(number: signal.Signals) -> None:
    code = f"""
import signal, sys, time
signal.signal({int(number)}, lambda *_: sys.exit(5))
print("ready", flush=True)
time.sleep(60)
"""
    with Program(["-c", code]) as program:
        assert program.stdout.readline() == "ready\n"
        assert program.returncode is None
        program.send_signal(number)
        assert program.wait(60) == 5
        assert program.returncode == 5


def test_long_outputs_do_not_block_each_other() -> None:
    code = "import sys; sys.stderr.write('e' * 300_000); print('o' * 300_000)"
    done = run_program(["-c", code])
    assert (len(done.stdout), len(done.stderr)) == (300_001, 300_000)


def test_standard_input() -> None:
    """It arrives whole and ends, and a program need not read it."""
    code = "import sys, os; print(sys.stdin.readline() + sys.stdin.read()[-9:], os.read(0, 1))"
    done = run_program(["-c", code], text="first\n" + "x" * 300_000 + " caffé\n")
    assert (done.returncode, done.stdout) == (0, "first\nxx caffé\n b''\n")
    assert run_program(["-c", code]).stdout == " b''\n"
    assert run_program(["-c", "print('deaf')"], text="x" * 300_000).stdout == "deaf\n"


def test_standard_input_bit_by_bit() -> None:
    code = "import sys\nfor line in sys.stdin: print(line.upper(), end='', flush=True)"
    with Program(["-c", code]) as program:
        for word in ("one\n", "two\n"):
            program.stdin.write(word)
            program.stdin.flush()
            assert program.stdout.readline() == word.upper()
        program.stdin.close()
        assert program.wait(60) == 0


def test_a_program_may_start_programs() -> None:
    code = (
        "import multiprocessing as m; p = m.Process(target=print, args=('x',)); p.start(); p.join()"
    )
    assert run_program(["-c", code]).stdout == "x\n"


def test_this_process_keeps_its_own(tmp_path: Path) -> None:
    before = list(sys.path), Path.cwd()
    run_program(["-c", "import sys; sys.path.clear()"], tmp_path)
    assert (list(sys.path), Path.cwd()) == before
