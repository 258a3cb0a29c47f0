"""The parser of training logs, of Caffe and of this package, and its tables."""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caffecompat import input_files
from caffecompat.errors import FileProblem, FormatError
from caffecompat.input_files import (
    STANDARD_INPUT,
    ClaimedBytes,
    PathLike,
    open_input,
    read_input,
)

# Severity, date (newer versions of glog add the year), time, thread, file and line.
PREFIX = re.compile(
    r"[IWEF](?P<year>[0-9]{4})?(?P<month>[0-9]{2})(?P<day>[0-9]{2}) "
    r"(?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?) +[0-9]+ \S+\] "
)
_ITERATION = re.compile(r"Iteration ([0-9]{1,18})(?![0-9])")
# ASCII digits only, since int and float would accept others, too.
_NUMBER = r"[-+]?(?:nan|inf|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)(?![0-9.])"
_RATE = re.compile(rf"lr = ({_NUMBER})")
_OUTPUT = re.compile(rf"(Train|Test) net output #[0-9]+: (\S+) = ({_NUMBER})")
_TEST_NET = re.compile(r"Testing net \(#([0-9]{1,9})\)")
_LEAP_YEAR = 2000
# What a cell of a table takes at least, in time and memory, as bytes of a file. The cells are rows
# times outputs, the square of the log where each line names an output of its own.
_CELL_BYTES = 4
# A name with one of these at its start would be a formula to a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass
class Row:
    """The outputs of one phase at one iteration.

    Attributes:
        iteration: the iteration, from 0 on.
        seconds: since the start of training.
        rate: the learning rate in the last line with one; NaN if there was none.
        outputs: values by name; the last value if a name has several.
        net: the number of the test net whose outputs these are, of several the last.
    """

    iteration: int
    seconds: float
    rate: float
    outputs: dict[str, float] = field(default_factory=dict)
    net: int = 0


@dataclass
class ParsedLog:
    """The content of a training log.

    Attributes:
        path: the file.
        train, test: rows in the order of the log.
        rates: (iteration, learning rate) in the order of the log.
    """

    path: str
    train: list[Row]
    test: list[Row]
    rates: list[tuple[int, float]] = field(default_factory=list)


def read_log(path: PathLike, max_bytes: int | None = None) -> ParsedLog:
    """Reads a training log.

    Lines before the one with ``Solving`` are ignored. A line belongs to the last iteration named
    before or in it. Lines without glog's prefix (traces, output of other programs) and invalid
    numbers (such as two that run together) are ignored.

    Args:
        path: the log, or ``-`` for standard input.
        max_bytes: the largest accepted size; None for 512 MiB.

    Raises:
        FileProblem: the file is missing or cannot be read.
        FormatError: it is larger than ``max_bytes``, or not a training log, or the tables of its
            outputs are much larger than the log.
    """
    name = os.fspath(path)
    limit = input_files.MAX_TEXT_BYTES if max_bytes is None else max_bytes
    if name == STANDARD_INPUT:
        data = read_input(path, limit)
        text = io.TextIOWrapper(io.BytesIO(data), encoding_of(data[:2], name), "replace")
        return _checked(_read(text, "standard input"), len(data), max_bytes)
    with open_input(path, limit) as file:
        size = os.fstat(file.fileno()).st_size
        encoding = encoding_of(file.read(2), name)
        file.seek(0)
        lines = io.TextIOWrapper(file, encoding, "replace")
        try:
            return _checked(_read(lines, name), size, max_bytes)
        except OSError as error:
            raise FileProblem(f"{name}: cannot be read: {error.strerror or error}") from error


def encoding_of(start: bytes, name: str) -> str:
    """The encoding of a log by its first two bytes: PowerShell redirects output as UTF-16.

    Raises:
        FormatError: it is packed.
    """
    if start == b"\x1f\x8b":
        raise FormatError(
            f"{name}: this is a gzip archive; unpack it first: gunzip -c {shlex.quote(name)} > "
            "train.log"
        )
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"


def no_training_log(name: str, found: str) -> FormatError:
    """The error for a file without the lines of a training log; ``found`` says which."""
    return FormatError(
        f"{name}: this is not a training log: {found}; give what 'caffe train' or 'caffecompat "
        "train' has written to standard error"
    )


def _checked(log: ParsedLog, size: int, max_bytes: int | None) -> ParsedLog:
    claimed = ClaimedBytes(log.path, size, max_bytes)
    for kind, rows in (("training", log.train), ("test", log.test)):
        cells = len(rows) * len(_names(rows))
        claimed.add(_CELL_BYTES * cells, f"the table of its {kind} outputs")
    return log


def _read(lines: Iterable[str], name: str) -> ParsedLog:
    log = ParsedLog(name, [], [])
    clock: Clock | None = None
    iteration, net = -1, 0
    rate = math.nan
    stamped = False
    for line in lines:
        prefix = PREFIX.match(line)
        stamped = stamped or prefix is not None
        if clock is None and prefix and "Solving" in line:
            clock = Clock(prefix, name)
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
        if match := _TEST_NET.search(line):
            net = int(match[1])
        if match := _OUTPUT.search(line):
            rows = log.train if match[1] == "Train" else log.test
            if _begins_row(rows, iteration):
                rows.append(Row(iteration, seconds, rate))
            rows[-1].outputs[match[2]] = float(match[3])
            rows[-1].net = net if match[1] == "Test" else 0
    if clock is None:
        found = "it has no line 'Solving ...'" if stamped else "none of its lines is a log line"
        raise no_training_log(name, found)
    _fix_first_rate(log.train)
    _fix_first_rate(log.test)
    return log


def _begins_row(rows: list[Row], iteration: int) -> bool:
    """Whether the next output begins a row, by the rule of Caffe's parser.

    Outputs of one iteration make one row, but for the rows after the first a row is complete when
    it has as many outputs as that. So test nets with the same outputs have a row each, except in
    the first iteration, where the last net's values stay.
    """
    if not rows or rows[-1].iteration != iteration:
        return True
    return len(rows) > 1 and len(rows[-1].outputs) == len(rows[0].outputs)


def _fix_first_rate(rows: list[Row]) -> None:
    """Sets the rate of the first row to that of the second, as Caffe's parser does.

    The first row mostly precedes any line with a rate. Like Caffe's parser, this does not check
    whether it does, so that the tables are equal.
    """
    if len(rows) > 1:
        rows[0].rate = rows[1].rate


class Clock:
    """Seconds since a start line. Log lines have no year; a smaller month starts a new year.

    Args:
        start: the prefix of that line.
        name: the log, for messages.

    Raises:
        FormatError: the prefix has an impossible date or time.
    """

    def __init__(self, start: re.Match[str], name: str) -> None:
        self._name = name
        self._years = 0
        self._month = int(start["month"])
        self._start = self._time(start)

    def seconds(self, prefix: re.Match[str]) -> float:
        """Seconds from the start to a line's prefix; lines must be in order.

        Raises:
            FormatError: the prefix has an impossible date or time.
        """
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
            raise FormatError(
                f"{self._name}: a line begins with {prefix[0]!r}, which has no valid date and time "
                f"({error}); correct the line or delete it"
            ) from error


def table(rows: list[Row], delimiter: str = ",") -> str:
    """Rows as CSV text with the columns of Caffe's parse_log.py.

    The columns are NumIters, Seconds, LearningRate, and all outputs in order of appearance. A name
    that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    names = _names(rows)
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["NumIters", "Seconds", "LearningRate", *map(_plain, names)])
    for row in rows:
        values = [row.outputs.get(name, "") for name in names]
        writer.writerow([float(row.iteration), row.seconds, row.rate, *values])
    return text.getvalue()


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.outputs))


def _plain(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA_STARTS) else name


def write_tables(log: ParsedLog, folder: str | os.PathLike[str], delimiter: str = ",") -> list[str]:
    """Writes ``<log>.train`` and ``<log>.test`` into ``folder``; no file for a phase without rows.

    Returns:
        the paths of the files.

    Raises:
        FileProblem: a file cannot be written.
    """
    from caffecompat.output_files import atomic_write

    written = []
    for kind, rows in (("train", log.train), ("test", log.test)):
        if rows:
            path = Path(folder) / f"{Path(log.path).name}.{kind}"
            with atomic_write(path) as file:
                # CRLF on all systems, as in the files of Caffe's tool.
                file.write(table(rows, delimiter).replace("\n", "\r\n").encode())
            written.append(str(path))
    return written
