"""The reader process for HDF5 files, which may crash without ending the user's process.

The HDF5 library crashes on some damaged files as soon as it opens them, so it never opens a
user's file in the user's own process. The reader process is a new interpreter that answers
requests on its standard input: requests and answers are one line of JSON, and array values follow
the line. It starts with the first file, which takes about as long as importing h5py, and is kept
for later files.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from caffecompat import errors
from caffecompat.errors import CaffeError, FileProblem, FormatError

# The pipe buffer, where the system can set it; the usual 64 KiB are slow for arrays.
PIPE_BYTES = 1 << 20
# The limit of processor time for one request: SECONDS + bytes read / BYTES_PER_SECOND.
SECONDS, BYTES_PER_SECOND = 8.0, 20 << 20
SIGNATURE = b"\x89HDF\r\n\x1a\n"
GROUP, DATA_SET = "group", "data set"
# The interpreter runs in isolated mode, with the import path of this process.
PROGRAM = """
import sys
sys.path[:] = {path!r}
from caffecompat.weights.hdf5_input.server import serve
serve()
"""


class ProcessDied(Exception):
    """The reader process has ended; the text says how."""


class HDF5Process:
    """The client of a reader process.

    Args:
        program: Python source to run in it; None for the reader.

    Raises:
        ProcessDied: it did not start, or ended during a request.
    """

    def __init__(self, program: str | None = None) -> None:
        path = [str(Path(__file__).resolve().parents[2]), *(p or os.getcwd() for p in sys.path)]
        text = PROGRAM.format(path=path) if program is None else program
        environment = {
            **os.environ,
            "HDF5_PLUGIN_PRELOAD": "::",  # no filter plugins, which would be foreign code
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", text],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C in a terminal interrupts this process only, which may continue to read.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ProcessDied(f"it did not start: {error}") from error
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment] # a pipe
        _widen(self._answers)
        self._receive()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer; the key ``"array"`` has the values of an array.

        Raises:
            CaffeError: the reader raised it.
            ProcessDied: the reader process ended.
        """
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ProcessDied(self._end()) from error
        answer = self._receive()
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer

    def stop(self) -> None:
        """Kills the process, which only reads."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def _receive(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(self._answers.readline())
            if "dtype" in answer:
                answer = self._receive_array(answer)
        except (ValueError, EOFError) as error:
            raise ProcessDied(self._end()) from error
        return answer

    def _receive_array(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Receives an array in pieces; an error may replace any piece."""
        array = np.empty(answer["shape"], answer["dtype"])
        remaining = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        while remaining:
            piece = json.loads(self._answers.readline())
            if "error" in piece:
                return dict(piece)
            self._fill(remaining[: piece["bytes"]])
            remaining = remaining[piece["bytes"] :]
        return {"array": array}

    def _fill(self, remaining: memoryview) -> None:
        while remaining:
            count = self._answers.readinto(remaining)  # type: ignore[attr-defined] # BufferedReader
            if not count:
                raise EOFError
            remaining = remaining[count:]

    def _end(self) -> str:
        """A clause that says how the process ended."""
        code = self._process.wait()
        if code >= 0:
            return f"it ended with code {code}"
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it was ended by signal {-code}"


class _IdleProcess:
    """At most one idle reader process, kept for the next file.

    Starting a process takes some tenths of a second. A fork of this process starts without one,
    because two processes must not use the same pipes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: HDF5Process | None = None
        self._of_parent: HDF5Process | None = None

    def take(self) -> HDF5Process | None:
        with self._lock:
            process, self._process = self._process, None
            return process

    def put(self, process: HDF5Process) -> None:
        with self._lock:
            surplus, self._process = self._process, process
        if surplus is not None:
            surplus.stop()

    def forked(self) -> None:
        self._lock = threading.Lock()
        # A reference prevents the garbage collection of the parent's process object.
        self._of_parent, self._process = self._process, None

    def stop(self) -> None:
        process = self.take()
        if process is not None:
            process.stop()


_idle = _IdleProcess()
atexit.register(_idle.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.forked)


@contextmanager
def opened(
    path: str | os.PathLike[str], max_bytes: int | None, remedy: str | None = None
) -> Iterator[Any]:
    """Context in which a file is open in the reader process; yields a function for requests.

    Args:
        path: the file.
        max_bytes, remedy: see :class:`caffecompat.weights.hdf5_input.contents.Contents`.

    Raises:
        FileProblem: it cannot be read, or the reader process cannot be started.
        FormatError: it is damaged; the HDF5 library may have crashed.
    """
    name = os.fspath(path)
    asked = [os.path.abspath(name), name, max_bytes, remedy]
    process = _opening(name, {"open": asked})
    intact = False

    def ask(**request: Any) -> dict[str, Any]:
        try:
            return process.ask(request)
        except ProcessDied as error:
            raise _crashed(name, error) from error

    try:
        yield ask
        ask(close=True)
        intact = True
    except CaffeError as error:
        if not isinstance(error.__cause__, ProcessDied):
            with contextlib.suppress(CaffeError, ProcessDied):
                process.ask({"close": True})
                intact = True
        raise
    finally:
        # After any other exit, such as an interrupt, an unread answer may be in the pipe.
        if intact:
            _idle.put(process)
        else:
            process.stop()


def _opening(name: str, request: dict[str, Any]) -> HDF5Process:
    """A reader process that has the file open."""
    waiting = _idle.take()
    if waiting is not None:
        try:
            return _ask_first(waiting, request)
        except ProcessDied:
            pass  # it may have died earlier for another reason; a new one decides
    try:
        process = HDF5Process()
    except ProcessDied as error:
        raise FileProblem(
            f"{name}: the process that reads HDF5 files cannot be used: {error}"
        ) from error
    try:
        return _ask_first(process, request)
    except ProcessDied as error:
        raise _crashed(name, error) from error


def _ask_first(process: HDF5Process, request: dict[str, Any]) -> HDF5Process:
    try:
        process.ask(request)
    except CaffeError:
        _idle.put(process)
        raise
    except BaseException:
        process.stop()
        raise
    return process


def _crashed(name: str, error: ProcessDied) -> FormatError:
    return FormatError(
        f"{name}: this is an HDF5 file that is damaged: the library that reads it, in a process of "
        f"its own, crashed or did not finish ({error})"
    )


def _widen(pipe: BinaryIO) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
