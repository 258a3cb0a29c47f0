"""Python programs in processes of their own that start at once, as forks of one that has torch.

A new Python takes three seconds of a core until it has imported torch. Programs whose imports are
not what a test is about are started here instead: arguments, folder, environment, input, output,
signals and exit codes are those of a new Python. torch has one thread, and functions of ``atexit``
do not run.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest

from tests.places import REPOSITORY


class Program:
    """A running Python program; pipes, methods and exit codes are those of ``subprocess.Popen``."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts what ``python ARGUMENTS`` starts.

        Args:
            arguments: ``["-c", code, ...]``, ``["-m", module, ...]`` or ``[script, ...]``.
            folder: its current folder.
            environment: all of its environment; that of this process by default.
        """
        given, out, err = _Pipe(to_program=True), _Pipe(), _Pipe()
        self._arguments = list(arguments)
        variables = dict(os.environ if environment is None else environment)
        self._process = _fork_server().Process(
            target=_become,
            args=(self._arguments, str(folder), variables, given, out, err),
            daemon=True,  # So that it does not outlive the tests, whatever happens.
        )
        with pytest.MonkeyPatch.context() as patch:
            # It would be imported there, and may be the example of a page that a test runs.
            patch.setitem(sys.modules, "__main__", ModuleType("__main__"))
            self._process.start()
        self.stdin, self.stdout, self.stderr = given.kept(), out.kept(), err.kept()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the pipes and waits for the program's end."""
        with suppress(BrokenPipeError):
            self.stdin.close()
        self.stdout.close()
        self.stderr.close()
        self._process.join()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
            subprocess.TimeoutExpired: the program has not ended.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the program has ended."""
        if self._process.exitcode is None and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Sends text to its standard input and ends that; returns all that the program writes.

        It is killed when it takes longer than ``timeout`` seconds.
        """
        limit = threading.Timer(timeout or 600.0, self.send_signal, [signal.SIGKILL])
        limit.start()
        errors: list[str] = []
        reading = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        reading.start()
        writing = threading.Thread(target=_end, args=[self.stdin, text])
        writing.start()
        with self.stdout, self.stderr:
            printed = self.stdout.read()
            reading.join()
        writing.join()
        self._process.join()
        limit.cancel()
        return printed, errors[0]


def run_program(
    arguments: Sequence[str],
    folder: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    text: str = "",
) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run`` answers for a Python program; see :class:`Program`."""
    program = Program(arguments, folder, environment)
    printed, errors = program.communicate(text, timeout)
    return subprocess.CompletedProcess(arguments, program.wait(), printed, errors)


class _Pipe:
    """A pipe of which one end goes to the process that it is an argument of: the writing end.

    Args:
        to_program: it is the reading end.
    """

    def __init__(self, to_program: bool = False) -> None:
        ends = os.pipe()
        self._sent, self._kept = ends if to_program else ends[::-1]
        self._mode = "w" if to_program else "r"

    def __reduce__(self) -> Any:
        return _given, (DupFd(self._sent),)

    def kept(self) -> IO[str]:
        """The end of this process, once the other has its own."""
        os.close(self._sent)
        return os.fdopen(self._kept, self._mode, encoding="utf-8", errors="surrogateescape")


def _end(stream: IO[str], text: str = "") -> None:
    """Writes the last text to a program, which may have ended or closed its standard input."""
    with suppress(BrokenPipeError), stream:
        stream.write(text)


def _given(duplicate: Any) -> int:
    return int(duplicate.detach())


@cache
def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "tests.loaded_modules"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        forkserver.ensure_running()
    return context


def _become(
    arguments: list[str], folder: str, variables: dict[str, str], given: int, out: int, err: int
) -> None:
    """Runs a program in this process, as if Python had just started with it."""
    # A daemon of multiprocessing must not start processes.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    os.dup2(given, 0)
    os.close(given)
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)  # type: ignore[misc]
    for number, descriptor, name in ((1, out, "stdout"), (2, err, "stderr")):
        os.dup2(descriptor, number)
        os.close(descriptor)
        # That of the fork server may be made for a file, in which writers seek.
        stream = os.fdopen(number, "w", encoding="utf-8", closefd=False)
        stream.reconfigure(line_buffering=number == 2, errors="backslashreplace")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    first, *rest = arguments
    own = folder if first.startswith("-") else str(Path(first).resolve().parent)
    listed = variables.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [own, *filter(None, listed)]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")
