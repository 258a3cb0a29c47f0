"""Gives damaged files to every reader, in child processes that may die.

The parent has loaded all libraries and forks one worker per piece of work. A worker says in shared
memory which input it is at; the parent sees a crash, a wait of more than ten seconds and more than
1 GB of memory, keeps the input's number, and forks another worker for the inputs after it. An input
is a pure function of the reader's name and its number.

``tools/fuzz.py`` is the command for long runs, ``test_fuzz.py`` makes a short one.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch

from tests.hostile.fuzzing.forking import load_package
from tests.hostile.fuzzing.fuzz_worker import (
    CRASH,
    FLOOD,
    HANG,
    MEMORY,
    SLOT,
    Finding,
    Task,
    Work,
    prepare,
    write_files,
)
from tests.hostile.fuzzing.readers import make_input
from tests.hostile.fuzzing.seeds import Seeds, make_seeds

# Of the processor, so that a busy machine makes no findings; and of waiting for something else than
# the processor.
SECONDS = 10.0
WAITING = 30.0
_CHUNK = 1000
_POLL = 0.05


@dataclass
class Tally:
    """What came of the inputs of one reader; ``seconds`` is the workers' time."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0


@dataclass
class Report:
    """What came of a run."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def count(self, reader: str, kind: str) -> int:
        return sum(f.reader == reader and f.kind == kind for f in self.findings)


def tasks_of(counts: dict[str, int], first: int) -> Iterator[Task]:
    """Pieces of work, the readers by turns, so that the rate of the whole run shows early."""
    done = dict.fromkeys(counts, 0)
    while left := [name for name in counts if done[name] < counts[name]]:
        # The reader that is furthest behind its share.
        name = min(left, key=lambda one: done[one] / counts[one])
        size = min(_CHUNK, counts[name] - done[name])
        yield Task(name, first + done[name], first + done[name] + size)
        done[name] += size


def temporary_parent() -> str | None:
    """A folder in memory where there is one: the file system is not what is tried here."""
    shared = "/dev/shm"
    return shared if os.path.isdir(shared) and os.access(shared, os.W_OK) else None


def _of_process(pid: int, name: str) -> bytes:
    """A file about a process; nothing if it has gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


class _Worker:
    """A forked process at one task, and what the parent knows of it."""

    def __init__(self, seeds: Seeds, task: Task, folder: Path) -> None:
        self.task = task
        self.started = time.monotonic()
        self._slot = mmap.mmap(-1, SLOT.size)
        SLOT.pack_into(self._slot, 0, task.first, 0.0, 0, 0)
        self.findings: list[Finding] = []
        self._pending = b""
        self._pipe, end = os.pipe()
        self._trace = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._pipe)
                work = Work(seeds, task, self._slot, end, self.folder, self._trace.fileno())
                prepare(work)
                work.run()
                code = 0
            except BaseException:
                traceback.print_exc(file=os.fdopen(self._trace.fileno(), "w"))
            finally:
                os._exit(code)
        os.close(end)
        os.set_blocking(self._pipe, False)
        self._limit = self._memory() + MEMORY
        self._seen = (task.first, 0.0, 0.0)

    def state(self) -> tuple[int, float, int, int]:
        """Number and start of the input it is at; how many were accepted and refused."""
        number, start, accepted, refused = SLOT.unpack_from(self._slot, 0)
        return number, start, accepted, refused

    def look(self) -> bool:
        """Reads what it tells, ends it where it must be ended; whether it is still there."""
        self._read()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self._read()
            self._judge(status)
            return False
        number, start, _, _ = self.state()
        stuck = self._stuck(number, time.monotonic() - start if start else 0.0)
        if stuck:
            self._end(Finding(self.task.reader, number, HANG, "", stuck))
            return False
        used = self._memory()
        if used > self._limit:
            detail = f"{(used - self._limit + MEMORY) >> 20} MiB more than before"
            self._end(Finding(self.task.reader, number, FLOOD, "", detail))
            return False
        return True

    def rest(self) -> Task | None:
        """What is left after the input that ended the worker."""
        after = self.state()[0] + 1
        task = self.task
        return Task(task.reader, after, task.stop) if after < task.stop else None

    def close(self) -> None:
        """Ends the process if it is there, and lets go of what it had."""
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self._pipe)
        self._trace.close()
        self._slot.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stuck(self, number: int, seconds: float) -> str:
        """What the input has taken too much of, if anything, counted from when it was seen."""
        used, queued = self._processor(), self._queued()
        if number != self._seen[0]:
            self._seen = (number, used, queued)
        used, queued = used - self._seen[1], queued - self._seen[2]
        if used > SECONDS:
            return f"over {SECONDS:g} s of the processor"
        if seconds - used - queued > WAITING:
            return f"over {WAITING:g} s of waiting"
        return ""

    def _processor(self) -> float:
        """Seconds of processor time that the process and its children have used."""
        ticks = 0
        for pid in self._family():
            words = _of_process(pid, "stat").rpartition(b")")[2].split()
            ticks += int(words[11]) + int(words[12]) if words else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def _queued(self) -> float:
        """Seconds that the process and its children have waited for a processor (schedstat)."""
        words = [_of_process(pid, "schedstat").split() for pid in self._family()]
        return sum(int(numbers[1]) for numbers in words if numbers) / 1e9

    def _memory(self) -> int:
        """Bytes that the process and its children have in memory."""
        sizes = [_of_process(pid, "statm").split() for pid in self._family()]
        return sum(int(words[1]) for words in sizes if words) * resource.getpagesize()

    def _family(self) -> list[int]:
        """The process, and those that it started, as for reading HDF5."""
        children = _of_process(self.pid, f"task/{self.pid}/children")
        return [self.pid, *map(int, children.split())]

    def _read(self) -> None:
        try:
            while data := os.read(self._pipe, 1 << 16):
                self._pending += data
        except BlockingIOError:
            pass
        *lines, self._pending = self._pending.split(b"\n")
        self.findings += [Finding(**json.loads(line)) for line in lines]

    def _judge(self, status: int) -> None:
        number = self.state()[0]
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            self.findings.append(
                Finding(self.task.reader, number, CRASH, self._traced(), f"killed by {name}")
            )
        elif os.WEXITSTATUS(status):
            # The harness itself failed, which no result may hide.
            self._trace.seek(0)
            raise RuntimeError(
                f"worker of {self.task.reader} at input {number}: "
                f"{self._trace.read().decode(errors='replace')}"
            )

    def _end(self, finding: Finding) -> None:
        """Asks where it is, then kills it."""
        os.kill(self.pid, signal.SIGUSR1)
        time.sleep(0.2)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        values = {**vars(finding), "where": self._traced()}
        self.findings.append(Finding(**values))

    def _traced(self) -> str:
        """The innermost line of the package in the trace that a dying process has left."""
        self._trace.seek(0)
        text = self._trace.read().decode(errors="replace")
        # The thread that failed comes first where a signal is to blame.
        lines = [line for line in text.splitlines() if "/caffecompat/" in line]
        if not lines:
            return "an unknown place"
        return lines[0].strip().rpartition("/caffecompat/")[2].replace('", line ', ":")


Progress = Callable[[int, Report], None]


def run(
    tasks: Sequence[Task],
    jobs: int = 1,
    progress: Progress = lambda done, report: None,
    keep: Path | None = None,
) -> Report:
    """Works through all tasks in ``jobs`` processes.

    Args:
        tasks: what to do.
        jobs: how many workers at once.
        progress: called some times a second with the number of inputs done.
        keep: folder for the inputs of findings: the first three of each fault.
    """
    load_package()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    report = Report()
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    with tempfile.TemporaryDirectory(dir=temporary_parent()) as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        seeds = make_seeds(folder / "seeds")
        try:
            while waiting or workers:
                while waiting and len(workers) < jobs:
                    workers.append(_Worker(seeds, waiting.pop(), folder))
                for worker in [one for one in workers if not one.look()]:
                    workers.remove(worker)
                    rest = worker.rest()
                    if rest is not None:
                        waiting.append(rest)
                    _add(report, worker, seeds, keep)
                    worker.close()
                at = sum(worker.state()[0] - worker.task.first for worker in workers)
                progress(sum(tally.inputs for tally in report.tallies.values()) + at, report)
                time.sleep(_POLL if workers else 0)
        finally:
            for worker in workers:
                worker.close()
    return report


def _add(report: Report, worker: _Worker, seeds: Seeds, keep: Path | None) -> None:
    number, _, accepted, refused = worker.state()
    tally = report.tallies.setdefault(worker.task.reader, Tally())
    tally.inputs += min(number + 1, worker.task.stop) - worker.task.first
    tally.accepted += accepted
    tally.refused += refused
    tally.seconds += time.monotonic() - worker.started
    for finding in worker.findings:
        alike = sum(other.fault == finding.fault for other in report.findings)
        report.findings.append(finding)
        if keep is not None and alike < 3:
            place = keep / f"{finding.reader}-{finding.number}"
            place.mkdir(parents=True, exist_ok=True)
            write_files(make_input(finding.reader, seeds, finding.number), place)
