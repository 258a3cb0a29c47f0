"""Gives damaged files to every reader, in child processes that may die.

The parent has loaded all libraries and forks one worker per piece of work. A worker says in shared
memory which input it is at; the parent sees a crash, a wait of more than ten seconds and more than
1 GB of memory, keeps the input's number, and forks another worker for the inputs after it. An input
is a pure function of the reader's name and its number.

``tools/fuzz.py`` is the command for long runs, ``test_fuzz.py`` makes a short one.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from caffecompat.errors import CaffeError
from tests.hostile.forking import load_package
from tests.hostile.readers import READERS, Ask, asks_for, first_path, make_input
from tests.hostile.seeds import Files, Seeds, make_seeds

# Of the processor, so that a busy machine makes no findings; and of waiting for something else than
# the processor.
SECONDS = 10.0
WAITING = 30.0
MEMORY = 1 << 30
# Beyond this allocations fail, so that a fault cannot take the machine with it.
_ADDRESSES = 8 << 30
_CHUNK = 1000
_POLL = 0.05
_MOST_LINES = 110

EXCEPTION, CRASH, HANG, FLOOD = KINDS = ("bare exception", "crash", "hang", "memory")
# Number and start time of the input that a worker is at; accepted, refused.
_SLOT = struct.Struct("<qdqq")


@dataclass(frozen=True)
class Finding:
    """What no input may bring about.

    Attributes:
        kind: one of :data:`KINDS`.
        where: the innermost line of the package, for the same fault the same text.
        detail: the exception, the signal, the amount of memory.
    """

    reader: str
    number: int
    kind: str
    where: str
    detail: str

    @property
    def fault(self) -> tuple[str, str, str]:
        """The same for findings of one cause."""
        return (self.reader, self.kind, self.where)


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


@dataclass(frozen=True)
class Task:
    """Inputs ``first`` to ``stop`` - 1 of a reader."""

    reader: str
    first: int
    stop: int


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


# The worker


class _Strict(logging.Handler):
    """Formats each record and lets an exception out, which logging itself would swallow."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


def _where(error: BaseException) -> str:
    """The innermost line of the package that an exception went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "caffecompat" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    parts = Path(frame.filename).parts
    name = "/".join(parts[parts.index("caffecompat") + 1 :] if ours else parts[-1:])
    return f"{type(error).__name__} in {name}:{frame.lineno} {frame.name}"


def _judge(ask: Ask, path: Path) -> tuple[bool, str, str]:
    """Whether the file was accepted; where and what was wrong, if anything."""
    try:
        ask(path)
    except CaffeError as error:
        text = str(error)
        if not text.strip():
            return False, "an empty message: " + _where(error), type(error).__name__
        if text.count("\n") > _MOST_LINES:
            return False, "a message of too many lines: " + _where(error), text[:200]
        return False, "", ""
    except BaseException as error:
        message = f"{type(error).__name__}: {str(error)[:300]}"
        return False, _where(error), message
    return True, "", ""


def write_files(files: Files, folder: Path) -> None:
    """The files of an input, in place of everything that is in ``folder``."""
    for name in os.listdir(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


@dataclass
class _Work:
    """What a worker needs."""

    seeds: Seeds
    task: Task
    slot: mmap.mmap
    pipe: int
    folder: Path
    trace: int

    def run(self) -> None:
        reader = READERS[self.task.reader]
        accepted = refused = 0
        limit = _resident() + MEMORY
        for number in range(self.task.first, self.task.stop):
            files = make_input(self.task.reader, self.seeds, number)
            write_files(files, self.folder)
            _SLOT.pack_into(self.slot, 0, number, time.monotonic(), accepted, refused)
            good = True
            for ask in asks_for(reader, number):
                taken, where, detail = _judge(ask, first_path(files))
                good = good and taken
                if where:
                    kind = FLOOD if detail.startswith("MemoryError") else EXCEPTION
                    self.tell(Finding(self.task.reader, number, kind, where, detail))
            accepted, refused = accepted + good, refused + (not good)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
            if peak > limit:
                used = f"{(peak - limit + MEMORY) >> 20} MiB more than before"
                self.tell(Finding(self.task.reader, number, FLOOD, "at its peak", used))
                _SLOT.pack_into(self.slot, 0, number, 0.0, accepted, refused)
                return
        _SLOT.pack_into(self.slot, 0, self.task.stop, 0.0, accepted, refused)

    def tell(self, finding: Finding) -> None:
        os.write(self.pipe, json.dumps(vars(finding)).encode() + b"\n")


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _prepare(work: _Work) -> None:
    """Makes a forked process a worker: silent, limited, with a trace of where it dies."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    faulthandler.enable(work.trace)
    faulthandler.register(signal.SIGUSR1, work.trace)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESSES, used + _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.getLogger("caffecompat").addHandler(_Strict())
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process
    np.seterr(all="ignore")  # the sums of damaged numbers may be anything
    os.chdir(work.folder)
    gc.freeze()


# The parent


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
        self._slot = mmap.mmap(-1, _SLOT.size)
        _SLOT.pack_into(self._slot, 0, task.first, 0.0, 0, 0)
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
                work = _Work(seeds, task, self._slot, end, self.folder, self._trace.fileno())
                _prepare(work)
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
        number, start, accepted, refused = _SLOT.unpack_from(self._slot, 0)
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
