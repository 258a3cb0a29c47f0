"""Thousands of damaged files for every reader: only ever a sentence, no crash, no hang, no flood.

``CAFFECOMPAT_FUZZ`` in the environment is the number of inputs (default 2000 over all readers), and
``CAFFECOMPAT_FUZZ_SEED`` the number of the first one of each reader. ``tools/fuzz.py`` shows the
progress of long runs.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.hostile.fuzzing.mutations import SEED
from tests.hostile.fuzzing.readers import READERS, first_path, make_input
from tests.hostile.fuzzing.seeds import Seeds, make_seeds
from tests.programs import run_program

ROOT = Path(__file__).resolve().parents[3]
COUNT = int(os.environ.get("CAFFECOMPAT_FUZZ", "2000"))
SECONDS = 300 + COUNT // 10


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Seeds:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    return run_program([str(ROOT / "tools" / "fuzz.py"), *words], timeout=SECONDS)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the harness looks into /proc"
)


@needs_proc
def test_damaged_files_are_only_ever_refused(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = ["--inputs", str(COUNT), "--first", str(SEED), "--jobs", "1", "--json", str(figures)]
    result = fuzz(*words)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(figures.read_text())["readers"]
    assert set(found) == set(READERS)
    for name, tally in found.items():
        assert tally["inputs"] == tally["accepted"] + tally["refused"] > 0, name
        # Damage that is always refused at the door, or never, tries nothing.
        assert tally["accepted"] > 0, name
        assert tally["refused"] > 0, name


@pytest.mark.parametrize("name", READERS)
def test_an_input_is_a_function_of_its_number(name: str, seeds: Seeds) -> None:
    assert make_input(name, seeds, 3) == make_input(name, seeds, 3)
    different = {json.dumps(repr(make_input(name, seeds, number))) for number in range(20)}
    assert len(different) > 15


@pytest.mark.parametrize("kind", ["caffemodel", "binary-net", "solverstate", "mean", "hdf5", "npz"])
def test_files_are_whole_before_they_are_damaged(
    kind: str, seeds: Seeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = first_path(make_input(kind, seeds, 0))
    for data in seeds.single[kind]:
        path.write_bytes(data)
        for ask in READERS[kind].asks:
            ask(path)


# Readers of the same input that fail in each way that the harness looks for, and in none.
FAILING = """
import json, os, signal, sys, time
from dataclasses import replace
from caffecompat.errors import CaffeError
from tests.hostile.fuzzing import fuzz, fuzz_worker
from tests.hostile.fuzzing.fuzz_worker import Task
from tests.hostile.fuzzing.readers import READERS

fuzz.SECONDS, fuzz.WAITING = 2, 20
# Little of it: on a busy machine a gigabyte takes longer to fill than those seconds.
fuzz.MEMORY = fuzz_worker.MEMORY = 1 << 28
kept = []

def flood(path):
    kept.append(bytearray(3 << 27))

def endless(path):
    while True:
        pass

ways = {
    "sound": lambda path: None,
    "bare": lambda path: json.loads("{"),
    "silent": lambda path: (_ for _ in ()).throw(CaffeError(" ")),
    "crash": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": lambda path: os.abort(),
    "endless": endless,
    "waiting": lambda path: time.sleep(600),
    "flood": flood,
}
for name, way in ways.items():
    READERS[name] = replace(READERS["mean"], asks=(way,), command=())
# All at once, for some of them do nothing until their time is up.
tasks = [Task(name, number, number + 1) for name in ways for number in (5, 6)]
whole = [Task("crash", 5, 7), *(task for task in tasks if task.reader != "crash")]
report = fuzz.run(whole, jobs=len(whole))
print(json.dumps({n: [t.inputs, t.accepted, t.refused] for n, t in report.tallies.items()}))
print(json.dumps([[f.reader, f.number, f.kind, f.detail] for f in report.findings]))
"""


@needs_proc
def test_the_harness_sees_each_way_to_fail() -> None:
    result = run_program(["-c", FAILING], timeout=SECONDS)
    assert result.returncode == 0, result.stderr
    tallies, findings = (json.loads(line) for line in result.stdout.splitlines())
    found = {(reader, number): (kind, detail) for reader, number, kind, detail in findings}
    kinds = {
        "bare": "bare exception",
        "silent": "bare exception",
        "crash": "crash",
        "abort": "crash",
        "endless": "hang",
        "waiting": "hang",
        "flood": "memory",
    }
    # A worker that dies is replaced, so that each input of each reader is judged.
    assert found.keys() == {(name, number) for name in kinds for number in (5, 6)}
    for (name, _), (kind, detail) in found.items():
        assert kind == kinds[name]
        assert detail
    assert found["crash", 5][1] == "killed by SIGSEGV"
    assert tallies["sound"] == [2, 2, 0]
    assert all(tally[0] == 2 for tally in tallies.values())
