"""Times of the iterations in a training log, as printed by Caffe's extract_seconds.py."""

from __future__ import annotations

import os

from caffecompat.input_files import read_input
from caffecompat.logs.parse import PREFIX, Clock, encoding_of, no_training_log


def read_seconds(path: str | os.PathLike[str], max_bytes: int | None = None) -> list[float]:
    """For each log line with ``Iteration``, the seconds since the line with ``Solving``.

    Raises:
        FileProblem, FormatError: the log cannot be read, or has no line with ``Solving``.
    """
    data = read_input(path, max_bytes)
    lines = data.decode(encoding_of(data[:2], os.fspath(path)), "replace").splitlines()
    stamped = [(match, line) for line in lines if (match := PREFIX.match(line))]
    start = next((match for match, line in stamped if "Solving" in line), None)
    if start is None:
        raise no_training_log(os.fspath(path), "it has no line 'Solving ...'")
    clock = Clock(start, os.fspath(path))
    return [clock.seconds(match) for match, line in stamped if "Iteration" in line]
