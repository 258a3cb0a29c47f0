"""Reads logs as the parsers that come with Caffe do, and compares them with recorded ones."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from caffecompat.reporting.glog import GlogFormatter

PREFIX = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ [\w.]+:\d+\] ")
ITERATION = re.compile(r"Iteration (\d+)")
OUTPUT = re.compile(r"(Train|Test) net output #(\d+): (\S+) = ([\w.+-]+)")
LEARNING_RATE = re.compile(r"lr = ([\w.+-]+)")
NUMBER = re.compile(r"(?<![\w#.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?(?![\w])")


class Lines(logging.Handler):
    """Keeps formatted lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(GlogFormatter())
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(self.format(record))

    @property
    def events(self) -> list[str]:
        """The lines without their prefix."""
        return [PREFIX.sub("", line, count=1) for line in self.text]

    def containing(self, words: str) -> list[str]:
        return [event for event in self.events if words in event]


@dataclass
class Row:
    """One row of a parsed log: the outputs of one phase at one iteration."""

    iteration: int
    rate: float | None
    outputs: dict[str, float]


def parse(lines: list[str]) -> dict[str, list[Row]]:
    """Rows by phase (``"Train"``, ``"Test"``).

    As in Caffe's parser nothing counts before the first line with ``Solving``; an iteration stays
    until the next one is named, and a test row has the rate of the last rate line before it.
    """
    rows: dict[str, list[Row]] = {"Train": [], "Test": []}
    started = False
    iteration = -1
    rate: float | None = None
    for line in lines:
        started = started or "Solving" in line
        if not started:
            continue
        assert PREFIX.match(line), line
        if match := ITERATION.search(line):
            iteration = int(match[1])
        if match := LEARNING_RATE.search(line):
            rate = float(match[1])
            assert line.split()[8] == match[1], "the ninth word of a rate line is the rate"
            for row in rows["Train"]:
                row.rate = rate if row.iteration == iteration else row.rate
        if match := OUTPUT.search(line):
            phase = rows[match[1]]
            if not phase or phase[-1].iteration != iteration:
                phase.append(Row(iteration, rate, {}))
            phase[-1].outputs[match[3]] = float(match[4])
            assert line.split()[10] == match[4], "the eleventh word of an output line is its value"
    return rows


def neutral(event: str) -> str:
    """An event without what depends on the clock."""
    return re.sub(
        r"\(\S+ iter/s, \S+s/(\d+) iters\)", r"(<rate> iter/s, <seconds>s/\1 iters)", event
    )


def assert_same_events(found: list[str], expected: list[str]) -> None:
    """Same words; numbers may differ by what float32 arithmetic in another order makes of them."""
    found = [neutral(event) for event in found]
    strip = [NUMBER.sub("#", event) for event in found]
    assert strip == [NUMBER.sub("#", event) for event in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True):
            error = abs(float(a) - float(b))
            assert error <= 2e-5 * abs(float(b)) + 2e-7, f"{ours!r} instead of {theirs!r}"
