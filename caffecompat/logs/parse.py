"""Logs of trainings as tables: those of Caffe, and those written here."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import (
    MAX_TEXT_BYTES,
    STANDARD_INPUT,
    PathLike,
    open_input,
    read_input,
)

# Severity, date (newer loggers put the year in front), time, thread, file and line.
PREFIX = re.compile(
    r"[IWEF](?P<year>[0-9]{4})?(?P<month>[0-9]{2})(?P<day>[0-9]{2}) "
    r"(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?) +[0-9]+ \S+\] "
)
_ITERATION = re.compile(r"Iteration ([0-9]{1,18})(?![0-9])")
# Digits are those of ASCII: int and float would take others, but no log has them.
_NUMBER = r"[-+]?(?:nan|inf|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?![0-9.])"
_RATE = re.compile(rf"lr = ({_NUMBER})")
_OUTPUT = re.compile(rf"(Train|Test) net output #[0-9]+: (\S+) = ({_NUMBER})")
_LEAP_YEAR = 2000


@dataclass
class Row:
    """The outputs of one phase at one iteration.

    Attributes:
        iteration: counted from 0.
        seconds: since the training started.
        rate: the learning rate of the last rate line before; not a number where there was none.
        outputs: values by name; of several elements of one name the last.
    """

    iteration: int
    seconds: float
    rate: float
    outputs: dict[str, float] = field(default_factory=dict)


@dataclass
class ParsedLog:
    """What a log says.

    Attributes:
        path: the file.
        train, test: rows in the order of the log.
        rates: learning rates by the iteration that they are shown for, in the order of the log.
    """

    path: str
    train: list[Row]
    test: list[Row]
    rates: list[tuple[int, float]] = field(default_factory=list)


def read_log(path: PathLike, max_bytes: int | None = None) -> ParsedLog:
    """Reads the log of a training.

    Nothing counts before the line with ``Solving``; an iteration holds until the next one is
    named. Lines that are no log lines (traces, output of other programs), and values that are no
    numbers (two of them run together), are passed over.

    Args:
        path: the log, or ``-`` for standard input.
        max_bytes: the largest log to read; None for 512 MiB.

    Raises:
        FileProblem: the file is missing or cannot be read.
        FormatError: it is larger than ``max_bytes``, or not the log of a training.
    """
    name = os.fspath(path)
    limit = MAX_TEXT_BYTES if max_bytes is None else max_bytes
    if name == STANDARD_INPUT:
        text = io.BytesIO(read_input(path, limit))
        return _read(io.TextIOWrapper(text, "utf-8", "replace"), "standard input")
    with open_input(path, limit) as file:
        lines = io.TextIOWrapper(file, "utf-8", "replace")
        try:
            return _read(lines, name)
        except OSError as error:
            raise FileProblem(f"{name}: cannot be read: {error.strerror or error}") from error


def _read(lines: Iterable[str], name: str) -> ParsedLog:
    log = ParsedLog(name, [], [])
    clock: Clock | None = None
    iteration = -1
    rate = math.nan
    stamped = False
    for line in lines:
        prefix = PREFIX.match(line)
        stamped = stamped or prefix is not None
        if clock is None and prefix and "Solving" in line:
            clock = Clock(prefix)
        if clock is None or prefix is None:
            continue
        if match := _ITERATION.search(line):
            iteration = int(match[1])
        if iteration < 0:
            continue
        seconds = clock.seconds(prefix)
        if match := _RATE.search(line):
            rate = float(match[1])
            log.rates.append((iteration, rate))
        if match := _OUTPUT.search(line):
            rows = log.train if match[1] == "Train" else log.test
            if not rows or rows[-1].iteration != iteration:
                rows.append(Row(iteration, seconds, rate))
            rows[-1].outputs[match[2]] = float(match[3])
    if clock is None:
        found = "it has no line 'Solving ...'" if stamped else "none of its lines is a log line"
        raise FormatError(
            f"{name}: this is not the log of a training: {found}; give what 'caffe train' or "
            "'caffecompat train' has written to standard error"
        )
    _mend_first(log.train)
    _mend_first(log.test)
    return log


def _mend_first(rows: list[Row]) -> None:
    """Gives the first row the second one's rate, as Caffe's parser does.

    The first mostly comes before any rate line. Caffe's parser does not look whether it does, and
    tables are compared, so neither is it looked at here.
    """
    if len(rows) > 1:
        rows[0].rate = rows[1].rate


class Clock:
    """Seconds since the start. Log lines have no year, so it turns over where the month falls."""

    def __init__(self, start: re.Match[str]) -> None:
        self._years = 0
        self._month = int(start["month"])
        self._start = self._time(start)

    def seconds(self, prefix: re.Match[str]) -> float:
        month = int(prefix["month"])
        if month < self._month and prefix["year"] is None:
            self._years += 1
        self._month = month
        return (self._time(prefix) - self._start).total_seconds()

    def _time(self, prefix: re.Match[str]) -> datetime:
        year = int(prefix["year"] or _LEAP_YEAR + self._years)
        form = "%Y %m %d %H:%M:%S.%f" if "." in prefix["clock"] else "%Y %m %d %H:%M:%S"
        try:
            text = f"{year} {prefix['month']} {prefix['day']} {prefix['clock']}"
            return datetime.strptime(text, form)
        except ValueError as error:
            raise FormatError(f"{prefix[0]!r} is no time of a log line: {error}") from error


def table(rows: list[Row], delimiter: str = ",") -> str:
    """Rows as CSV with the columns of Caffe's parse_log.py.

    Columns: NumIters, Seconds, LearningRate, then every output in the order of appearance.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.outputs))
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["NumIters", "Seconds", "LearningRate", *names])
    for row in rows:
        values = [row.outputs.get(name, "") for name in names]
        writer.writerow([float(row.iteration), row.seconds, row.rate, *values])
    return text.getvalue()


def write_tables(log: ParsedLog, folder: str | os.PathLike[str], delimiter: str = ",") -> list[str]:
    """Writes ``<log>.train`` and ``<log>.test`` into ``folder``; a phase without rows has no file.

    Returns:
        The paths of the files.

    Raises:
        FileProblem: they cannot be written.
    """
    from caffecompat.output_files import atomic_write

    written = []
    for kind, rows in (("train", log.train), ("test", log.test)):
        if rows:
            path = Path(folder) / f"{Path(log.path).name}.{kind}"
            with atomic_write(path) as file:
                # Lines end as in the files of Caffe's tool, whatever the machine.
                file.write(table(rows, delimiter).replace("\n", "\r\n").encode())
            written.append(str(path))
    return written
