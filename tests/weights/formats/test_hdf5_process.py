"""HDF5 files are read in another process, which may die without harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from caffecompat.errors import FormatError
from caffecompat.weights.hdf5_input import process
from caffecompat.weights.hdf5_input.contents import SLAB, slabs
from caffecompat.weights.hdf5_input.hdf5_file import open_hdf5
from caffecompat.weights.hdf5_input.process import HDF5Process, ProcessDied

ROOT = Path(__file__).resolve().parents[3]
# Says that it is ready, and dies over the first file.
DYING = """
import os, signal, sys
print("{}", flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGSEGV)
"""
# Dies in the middle of an array.
HALF = """
import os, sys
print("{}", flush=True)
sys.stdin.readline()
print('{"shape": [1000], "dtype": "<f4"}')
print('{"bytes": 4000}')
sys.stdout.flush()
os.write(1, b"x" * 100)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(6.0)
    return path


@pytest.mark.parametrize(
    ("program", "end"), [(DYING, "it was ended by SIGSEGV"), (HALF, "it ended with code 0")]
)
def test_a_dead_rank_is_reported(program: str, end: str) -> None:
    process = HDF5Process(program)
    with pytest.raises(ProcessDied, match=end):
        process.ask({"read": "x"})
    process.stop()


def test_a_crash_is_a_sentence_about_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_idle", process._IdleProcess())
    monkeypatch.setattr(process, "PROGRAM", DYING.replace("{", "{{").replace("}", "}}"))
    with pytest.raises(FormatError, match=r"a\.h5: this is an HDF5 file that is damaged.*SIGSEGV"):  # noqa: SIM117
        with open_hdf5(path):
            pass


def test_one_process_serves_many_files(path: Path, tmp_path: Path) -> None:
    with open_hdf5(path) as file:
        first = file.read("x")
    damaged = tmp_path / "b.h5"
    damaged.write_bytes(path.read_bytes()[:600])
    with pytest.raises(FormatError, match="damaged or cut off"), open_hdf5(damaged):
        pass
    kept = process._idle._process
    with open_hdf5(path) as file:
        np.testing.assert_array_equal(file.read("x"), first)
    assert process._idle._process is kept is not None


def test_a_process_that_died_between_two_files_is_replaced(path: Path) -> None:
    with open_hdf5(path):
        pass
    kept = process._idle._process
    assert kept is not None
    os.kill(kept._process.pid, signal.SIGKILL)
    with open_hdf5(path) as file:
        assert file.read("x").tolist() == [0, 1, 2, 3, 4, 5]


def test_two_files_at_once(path: Path) -> None:
    with open_hdf5(path) as one, open_hdf5(path) as other:
        assert one.read("x").tolist() == other.read("x").tolist()


def test_an_interrupt_leaves_no_answer_behind(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_hdf5(path):
        raise KeyboardInterrupt
    with open_hdf5(path) as file:
        assert file.members() == ["x"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_asks_a_process_of_its_own(path: Path) -> None:
    with open_hdf5(path):
        pass
    child = os.fork()
    if not child:
        code = 1
        try:
            assert process._idle._process is None
            with open_hdf5(path) as file:
                code = 0 if file.read("x").size == 6 else 2
        finally:
            process._idle.stop()
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with open_hdf5(path) as file:
        assert file.read("x").size == 6


def test_signals_of_the_terminal_do_not_reach_it(path: Path) -> None:
    """Ctrl-C in a training must not look like a damaged data file."""
    program = f"""
import os, signal
from pathlib import Path
from caffecompat.weights.hdf5_input.hdf5_file import open_hdf5
signal.signal(signal.SIGINT, signal.SIG_IGN)
with open_hdf5(Path({str(path)!r})) as file:
    os.killpg(os.getpid(), signal.SIGINT)
    print(file.read("x").size)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert result.stdout == "6\n"
    assert not result.stderr


@pytest.mark.parametrize("chunks", [None, (1000, 7), (999, 4)])
def test_large_arrays_come_in_pieces(chunks: tuple[int, int] | None, tmp_path: Path) -> None:
    values = np.arange(7 * (SLAB // 10), dtype=np.float32).reshape(-1, 7)
    assert len(list(slabs(values.shape, 4))) == 3
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=chunks)
    with open_hdf5(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file.read("x"), values)


@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (3, 4)])
def test_small_and_empty_arrays(shape: tuple[int, ...], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones(shape, ">f2")
    with open_hdf5(tmp_path / "a.h5") as file:
        found = file.read("x")
    assert found.shape == shape
    assert (found == 1).all()


def test_pieces_are_whole_chunks() -> None:
    rows = SLAB // 4000
    assert list(slabs((3 * rows, 1000), 4, chunk_rows=1)) == [
        (0, rows), (rows, rows), (2 * rows, rows)
    ]  # fmt: skip
    pieces = list(slabs((3 * rows, 1000), 4, chunk_rows=700))
    assert all(first % 700 == 0 for first, _ in pieces)
    assert sum(count for _, count in pieces) == 3 * rows
