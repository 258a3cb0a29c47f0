#!/usr/bin/env python3
"""Kills jobs by SIGKILL at random moments, resumes or repeats them, and compares the results.

The jobs are trainings (SGD with binary snapshots, Adam with HDF5 ones, both with a test net),
convert-imageset, dataset merge, shuffle and sample, and convert into each weight format. Each is
compared bit for bit with an uninterrupted run: after every kill no half-written file may
stand under a name that others look for and no older file may be lost; after the last repeat all
files must be those of the undisturbed run, with none left over.

Half of the kills come at a random moment of the job's life, the other half when a file in the
making is seen, or up to 3 ms later. Each job is a fork of this process, which has loaded all
libraries, so that a kill costs no start of Python.

Examples:
    python tools/kill_check.py --kills 1000 --json kills.json
    python tools/kill_check.py --job train-adam --kills 50 --seed 7

The exit code is 1 if anything differs. A SIGKILL ends a process, not the machine: what a power
failure leaves is not tried here. Linux and macOS only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch

from caffecompat.cli.main import main as caffecompat_main
from caffecompat.data.backends.database import open_database
from tests.hostile.fuzzing.forking import load_package
from tools.kill_check_jobs import INPUTS, JOBS, Job, make_inputs

# Unfinished files.
_DRAFT = re.compile(r".*\.tmp|\.new\..*|.*\.unfinished.*")
# What a job may leave beside its results.
_LOG = re.compile(r".*\.log")
# A conversion removes its mark after the database has its name; the repeat removes it else.
_OF_COMPLETE_DATABASES = ("begun-with.txt",)
_LATEST = 0.003
_GLANCE = 0.0002
_TIMEOUT = 120.0
_OLD = b"an older file of this name\n"


# Running and killing


class Victim:
    """A fork of this process that runs one command in a folder; what it says goes to a file."""

    def __init__(self, argv: Sequence[str], folder: Path, told: Path) -> None:
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be_victim(lambda: caffecompat_main(list(argv)), folder, told)
        self.status: int | None = None

    def is_alive(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is None

    def kill(self) -> bool:
        """Whether it was still there to be killed."""
        if not self.is_alive():
            return False
        os.kill(self.pid, signal.SIGKILL)
        self.status = os.waitpid(self.pid, 0)[1]
        return os.WIFSIGNALED(self.status)

    def finish(self, look: Callable[[], None] = lambda: None) -> int:
        """Its exit code; it is killed if it never ends."""
        while self.is_alive():
            look()
            time.sleep(_GLANCE)
            if time.monotonic() - self.begun > _TIMEOUT:
                self.kill()
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)


def _be_victim(work: Callable[[], int | None], folder: Path, told: Path) -> None:
    code = 1
    try:
        output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.chdir(folder)
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        code = work() or 0
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def unfinished_files(folder: Path) -> set[str]:
    """Names of unfinished files and folders."""
    return {name for name in os.listdir(folder) if _DRAFT.fullmatch(name)}


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run: its folder, how long it took, how many unfinished files were seen."""

    folder: Path
    seconds: float
    unfinished_files: int


def undisturbed(job: Job, folder: Path, inputs: Path, told: Path) -> Reference:
    """Runs a job to its end.

    Raises:
        RuntimeError: it fails.
    """
    _begin_folder(folder, inputs)
    seen: set[str] = set()
    victim = Victim(job.begin, folder, told)
    code = victim.finish(lambda: seen.update(unfinished_files(folder)))
    if code:
        raise RuntimeError(f"{job.name} fails undisturbed, exit code {code}:\n{told.read_text()}")
    return Reference(folder, time.monotonic() - victim.begun, max(1, len(seen)))


def _begin_folder(folder: Path, inputs: Path) -> None:
    folder.mkdir()
    (folder / INPUTS).symlink_to(inputs)


# Comparing


def visible(folder: Path) -> list[str]:
    """Names of results: all but the inputs, logs, unfinished files and locks."""
    hidden = (INPUTS,)
    return sorted(
        name
        for name in os.listdir(folder)
        if name not in hidden
        and not _DRAFT.fullmatch(name)
        and not _LOG.fullmatch(name)
        and not name.endswith(".lock")
    )


def differences_while_killed(job: Job, folder: Path, reference: Path, old: bool) -> list[str]:
    """What is wrong in the folder of a job that has just been killed."""
    found = []
    names = visible(folder)
    for name in names:
        path, expected = folder / name, reference / name
        if old and name in job.results and path.is_file() and path.read_bytes() == _OLD:
            continue
        if not _same(path, expected, _OF_COMPLETE_DATABASES):
            found.append(f"{name} is half-written")
    if old:
        found += [f"the old {name} is lost" for name in job.results if name not in names]
    return found


def _is_done(job: Job, folder: Path) -> bool:
    return bool(job.results) and all((folder / name).exists() for name in job.results)


def differences_at_the_end(folder: Path, reference: Path) -> list[str]:
    """How the folder of a job that was repeated differs from the undisturbed one."""
    names = {n for n in os.listdir(folder) if n != INPUTS and not _LOG.fullmatch(n)}
    expected = {n for n in os.listdir(reference) if n != INPUTS and not _LOG.fullmatch(n)}
    found = [f"{name} is left over" for name in sorted(names - expected)]
    found += [f"{name} is missing" for name in sorted(expected - names)]
    common = sorted(names & expected)
    return found + [
        f"{name} differs" for name in common if not _same(folder / name, reference / name)
    ]


def _same(path: Path, expected: Path, ignored: Sequence[str] = ()) -> bool:
    """Whether two files are equal byte by byte, or two databases record by record.

    Args:
        path: the one.
        expected: the other one.
        ignored: files that the first database may have besides.
    """
    if not expected.exists() or path.is_dir() != expected.is_dir():
        return False
    if path.is_file():
        return path.read_bytes() == expected.read_bytes()
    same_names = _names_in(path) - set(ignored) == _names_in(expected)
    return same_names and _records(path) == _records(expected)


def _names_in(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if name != "lock.mdb"}


def _records(path: Path) -> list[tuple[bytes, bytes]]:
    with open_database(path) as database:
        return [database.read(index) for index in range(len(database))]


# The check


@dataclass
class Count:
    """What came of a job."""

    runs: int = 0
    kills: int = 0
    in_writing: int = 0
    too_late: int = 0
    differences: int = 0


class Check:
    """Kills jobs in a temporary folder and keeps count.

    Args:
        folder: an empty folder.
        seed: of everything that chance decides.
        jobs: which ones.
    """

    def __init__(self, folder: Path, seed: int, jobs: Sequence[Job] = JOBS) -> None:
        self._folder = folder
        self._inputs = folder / INPUTS
        self._told = folder / "told.txt"
        self._chance = random.Random(seed)
        self.counts = {job.name: Count() for job in jobs}
        self.faults: list[str] = []
        self._inputs.mkdir()
        self._in_fork(lambda: make_inputs(self._inputs))
        self._references = {
            job.name: undisturbed(job, folder / f"reference-{job.name}", self._inputs, self._told)
            for job in jobs
        }

    def _in_fork(self, work: Callable[[], None]) -> None:
        """Keeps this process as it is: it has started no thread that a fork would miss."""
        pid = os.fork()
        if pid == 0:
            _be_victim(work, self._folder, self._told)
        if os.waitpid(pid, 0)[1]:
            raise RuntimeError(self._told.read_text())

    @property
    def kills(self) -> int:
        return sum(count.kills for count in self.counts.values())

    def one(self, job: Job) -> None:
        """A job killed once, sometimes twice or three times, then run to its end."""
        count, reference = self.counts[job.name], self._references[job.name]
        folder = self._folder / "trial"
        _begin_folder(folder, self._inputs)
        old = job.replaces and self._chance.random() < 0.5
        if old:
            (folder / job.results[0]).write_bytes(_OLD)
        count.runs += 1
        argv = job.begin
        faults: list[str] = []
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            if not self._strike(Victim(argv, folder, self._told), reference, folder):
                count.too_late += 1
                break
            count.kills += 1
            count.in_writing += bool(unfinished_files(folder))
            faults += differences_while_killed(job, folder, reference.folder, old)
            argv = job.again
        else:
            # A job that was killed after its last step must not be done over its own result.
            expected = int(not job.replaces and _is_done(job, folder))
            code = Victim(argv, folder, self._told).finish()
            if code != expected:
                faults.append(f"the repeat ends with {code}: {self._told.read_text()[-500:]}")
        faults += differences_at_the_end(folder, reference.folder)
        count.differences += len(faults)
        self.faults += [f"{job.name}, run {count.runs}: {fault}" for fault in faults]
        shutil.rmtree(folder)

    def _strike(self, victim: Victim, reference: Reference, folder: Path) -> bool:
        """Kills at a random moment of its life, or soon after an unfinished file appears."""
        if self._chance.random() < 0.5:
            moment = victim.begun + self._chance.random() * reference.seconds
            while victim.is_alive() and time.monotonic() < moment:
                time.sleep(_GLANCE)
            return victim.kill()
        wanted = self._chance.randint(1, reference.unfinished_files)
        # Mostly at once: a small file is written in less than a millisecond.
        delay = self._chance.random() ** 4 * _LATEST
        seen = unfinished_files(folder)
        before = len(seen)
        while victim.is_alive() and len(seen) - before < wanted:
            seen |= unfinished_files(folder)
            time.sleep(_GLANCE)
        time.sleep(delay)
        return victim.kill()


def main() -> int:
    arguments = _arguments()
    jobs = [job for job in JOBS if arguments.job is None or job.name in arguments.job]
    load_package()
    begun = time.monotonic()
    shown = 0.0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        check = Check(Path(name).resolve(), arguments.seed, jobs)
        while check.kills < arguments.kills:
            # The job that is furthest behind its share.
            check.one(min(jobs, key=lambda job: check.counts[job.name].runs / job.share))
            now = time.monotonic()
            if now - shown > (1 if sys.stderr.isatty() else 30):
                shown = now
                _tell(check, arguments.kills, now - begun)
    seconds = time.monotonic() - begun
    _print(check, seconds)
    if arguments.json:
        figures = {name: asdict(count) for name, count in check.counts.items()}
        content = {"seed": arguments.seed, "seconds": round(seconds, 1), "jobs": figures}
        arguments.json.write_text(json.dumps(content | {"faults": check.faults}, indent=1))
    return 1 if check.faults else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    parser.add_argument("--job", nargs="+", choices=[job.name for job in JOBS], help="only these")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None,
        help="where to work (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def _tell(check: Check, wanted: int, seconds: float) -> None:
    left = seconds / max(check.kills, 1) * (wanted - check.kills)
    line = f"{check.kills:,} of {wanted:,} kills, {left / 60:.0f} min left, "
    line += f"{len(check.faults)} differences"
    live = sys.stderr.isatty()
    sys.stderr.write(f"\r\x1b[K{line}" if live else f"{line}\n")
    sys.stderr.flush()


def _print(check: Check, seconds: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    columns = ("runs", "kills", "in writing", "too late", "differences")
    print(f"{'job':<24}" + "".join(f"{name:>13}" for name in columns))
    sums = [0] * len(columns)
    for name, count in check.counts.items():
        row = list(asdict(count).values())
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        print(f"{name:<24}" + "".join(f"{number:>13,}" for number in row))
    print(f"{'all':<24}" + "".join(f"{number:>13,}" for number in sums))
    print(f"{seconds / 60:.1f} minutes")
    for fault in check.faults:
        print(fault)


if __name__ == "__main__":
    sys.exit(main())
