"""A process that reads HDF5 files for this one, and may die over a damaged file.

The HDF5 library crashes over some damaged files before anything about them can be asked, so it
never opens a file of a user in the user's own process. The other process is a fresh interpreter
that answers requests on its standard input: one line of JSON each way, and the values of arrays
behind the line. It is started with the first file, which takes about as long as importing h5py,
and kept for the next one.
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
from caffecompat.input_files import REMEDY

# Bytes that a pipe holds where the system lets it be set; the usual 64 KiB are slow for arrays.
PIPE_BYTES = 1 << 20
# Processor time for one request, beside what reading its values takes at this rate.
SECONDS, BYTES_PER_SECOND = 8.0, 20 << 20
SIGNATURE = b"\x89HDF\r\n\x1a\n"
GROUP, DATA_SET = "group", "data set"
# The interpreter is isolated; what it may import is what this process can.
PROGRAM = """
import sys
sys.path[:] = {path!r}
from caffecompat.weights.hdf5_input.server import serve
serve()
"""


class Died(Exception):
    """The other process has ended; the text says how."""


class HDF5Process:
    """The other process, seen from this one.

    Args:
        program: Python text to run there.

    Raises:
        Died: it did not start, or ended while it was asked.
    """

    def __init__(self, program: str | None = None) -> None:
        path = [str(Path(__file__).resolve().parents[2]), *(p or os.getcwd() for p in sys.path)]
        text = PROGRAM.format(path=path) if program is None else program
        environment = {
            **os.environ,
            "HDF5_PLUGIN_PRELOAD": "::",  # no code from elsewhere, whatever filter a file names
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
                # Ctrl-C in a terminal is for this process, which may want to go on reading.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise Died(f"it did not start: {error}") from error
        self._answers: BinaryIO = self._process.stdout  # type: ignore[assignment] # a pipe
        _widen(self._answers)
        self._receive()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; the values of an array are under ``"array"``.

        Raises:
            CaffeError: as raised there.
            Died: it ended.
        """
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Died(self._end()) from error
        answer = self._receive()
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["message"])
        return answer

    def stop(self) -> None:
        """Ends the process, which has nothing to lose."""
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
            raise Died(self._end()) from error
        return answer

    def _receive_array(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The array in its pieces, of which each may turn out to be an error."""
        array = np.empty(answer["shape"], answer["dtype"])
        room = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        while room:
            piece = json.loads(self._answers.readline())
            if "error" in piece:
                return dict(piece)
            self._fill(room[: piece["bytes"]])
            room = room[piece["bytes"] :]
        return {"array": array}

    def _fill(self, room: memoryview) -> None:
        while room:
            count = self._answers.readinto(room)  # type: ignore[attr-defined] # BufferedReader
            if not count:
                raise EOFError
            room = room[count:]

    def _end(self) -> str:
        """How it ended."""
        code = self._process.wait()
        if code >= 0:
            return f"it ended with code {code}"
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it was ended by signal {-code}"


class _Idle:
    """At most one process that waits for the next file.

    Kept between files because a start takes some tenths of a second. A fork of this process
    begins without any: two processes must not ask the same one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: HDF5Process | None = None
        self._parents: HDF5Process | None = None

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
        # Kept from being collected: it is the parent's to end.
        self._parents, self._process = self._process, None

    def stop(self) -> None:
        process = self.take()
        if process is not None:
            process.stop()


_idle = _Idle()
atexit.register(_idle.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.forked)


@contextmanager
def opened(
    path: str | os.PathLike[str], max_bytes: int | None, remedy: str = REMEDY
) -> Iterator[Any]:
    """A function that sends requests about one file, which is open in the other process.

    Args:
        path: the file.
        max_bytes, remedy: see :class:`caffecompat.weights.hdf5_input.structure.Contents`.

    Raises:
        FileProblem: it cannot be read, or the other process cannot be started.
        FormatError: it is damaged, to the point where the library crashes over it.
    """
    name = os.fspath(path)
    asked = [os.path.abspath(name), name, max_bytes, remedy]
    process = _opening(name, {"open": asked})
    intact = False

    def ask(**request: Any) -> dict[str, Any]:
        try:
            return process.ask(request)
        except Died as error:
            raise _crashed(name, error) from error

    try:
        yield ask
        ask(close=True)
        intact = True
    except CaffeError as error:
        if not isinstance(error.__cause__, Died):
            with contextlib.suppress(CaffeError, Died):
                process.ask({"close": True})
                intact = True
        raise
    finally:
        # After anything else, such as an interrupt, an answer may still be under way.
        if intact:
            _idle.put(process)
        else:
            process.stop()


def _opening(name: str, request: dict[str, Any]) -> HDF5Process:
    """A process that has the file open."""
    waiting = _idle.take()
    if waiting is not None:
        try:
            return _ask_first(waiting, request)
        except Died:
            pass  # it may have died long ago, for any reason; a fresh one tells
    try:
        process = HDF5Process()
    except Died as error:
        raise FileProblem(
            f"{name}: the process that reads HDF5 files cannot be used: {error}"
        ) from error
    try:
        return _ask_first(process, request)
    except Died as error:
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


def _crashed(name: str, error: Died) -> FormatError:
    return FormatError(
        f"{name}: this is an HDF5 file that is damaged: the library that reads it, in a process of "
        f"its own, crashed or came to no end ({error})"
    )


def _widen(pipe: BinaryIO) -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
