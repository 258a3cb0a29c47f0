"""The child process of fuzz.py beside it, which gives a reader its inputs one by one."""

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
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffecompat.errors import CaffeError
from tests.hostile.fuzzing.readers import READERS, Ask, asks_for, first_path, make_input
from tests.hostile.fuzzing.seeds import Files, Seeds

MEMORY = 1 << 30
# Beyond this allocations fail, so that a fault cannot take the machine with it.
_ADDRESSES = 8 << 30
_MOST_LINES = 110
EXCEPTION, CRASH, HANG, FLOOD = KINDS = ("bare exception", "crash", "hang", "memory")
# Number and start time of the input that a worker is at; accepted, refused.
SLOT = struct.Struct("<qdqq")


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


@dataclass(frozen=True)
class Task:
    """Inputs ``first`` to ``stop`` - 1 of a reader."""

    reader: str
    first: int
    stop: int


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
class Work:
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
            SLOT.pack_into(self.slot, 0, number, time.monotonic(), accepted, refused)
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
                SLOT.pack_into(self.slot, 0, number, 0.0, accepted, refused)
                return
        SLOT.pack_into(self.slot, 0, self.task.stop, 0.0, accepted, refused)

    def tell(self, finding: Finding) -> None:
        os.write(self.pipe, json.dumps(vars(finding)).encode() + b"\n")


def _resident() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def prepare(work: Work) -> None:
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
