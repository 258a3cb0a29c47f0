"""The process that reads HDF5 files for another one: it answers requests on its standard input."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from caffecompat.errors import CaffeError
from caffecompat.weights.hdf5_input.contents import Contents
from caffecompat.weights.hdf5_input.process import BYTES_PER_SECOND, SECONDS
from caffecompat.weights.hdf5_input.references import References, attribute

# Memory for one file, in addition to twice what it may claim.
EXTRA_BYTES = 512 << 20


def serve() -> None:
    """Answers requests on standard input until it ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # Only the parent decides when to stop; if it dies, standard input ends.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    contents: Contents | None = None
    _answer(answers, {})
    for line in requests:
        request = json.loads(line)
        try:
            _limit_time(SECONDS)
            if "open" in request:
                contents = Contents(*request["open"])
                _limit_memory(contents.limit)
                _answer(answers, {})
            elif "close" in request:
                if contents is not None:
                    contents.close()
                contents = None
                _answer(answers, {})
            else:
                assert contents is not None
                _answer_about(contents, request, answers)
        except CaffeError as error:
            _answer(answers, {"error": type(error).__name__, "message": str(error)})


def _answer_about(contents: Any, request: dict[str, Any], answers: BinaryIO) -> None:
    if "attribute" in request:
        _answer(answers, {"value": attribute(contents, *request["attribute"])})
    elif "references" in request:
        group, name = request["references"]
        if contents.references is None:
            contents.references = References(contents, group)
        shape, names = contents.references.read(name)
        _answer(answers, {"shape": shape, "names": names})
    elif "kind" in request:
        _answer(answers, {"kind": contents.kind(request["kind"])})
    elif "members" in request:
        _answer(answers, {"members": contents.members(request["members"])})
    elif "check" in request:
        contents.check(request["check"])
        _answer(answers, {})
    elif "describe" in request:
        shape, dtype, variable = contents.describe(request["describe"])
        name = "strings" if variable or dtype.kind == "S" else str(dtype)
        _answer(answers, {"shape": shape, "name": name, "kind": dtype.kind})
    else:
        described, pieces = contents.read(request["read"])
        size = contents.nbytes(described)
        _limit_time(SECONDS + size / BYTES_PER_SECOND)
        _answer(answers, {"shape": described.shape, "dtype": described.dtype.str})
        for piece in pieces:
            _answer(answers, {"bytes": piece.nbytes})
            answers.write(piece.reshape(-1).view(np.uint8).data)
        answers.flush()


def _answer(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit_time(seconds: float) -> None:
    """Ends this process when a request takes more processor time: damaged files lead in circles."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit_memory(claims: int) -> None:
    """The most that this process may take, for a file that may claim ``claims`` bytes."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = min(now + 2 * claims + EXTRA_BYTES, sys.maxsize // 2)
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
