"""Collects the mistakes of one prototxt, to report them together."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import NoReturn

from caffecompat.proto.schema import Message
from caffecompat.proto.text.parse_state import layer_name
from caffecompat.proto.text.positions import Positions

MOST_MISTAKES = 100


@dataclass
class Mistake:
    """One mistake: its offset, its sentence, and the layer that it is in.

    ``misplaced`` says that the field belongs to a message around this one, so that a closing brace
    may be missing.
    """

    start: int
    sentence: str
    layer: Message | None = None
    misplaced: bool = False


class UnreadableError(Exception):
    """After a mistake in its structure the rest of a text cannot be read."""


class Mistakes:
    """The mistakes of a text; reading ends at the hundredth."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []
        self.cut_short = False

    def report(self, mistake: Mistake) -> None:
        """Adds a mistake.

        Raises:
            UnreadableError: there are a hundred.
        """
        self.found.append(mistake)
        if len(self.found) >= MOST_MISTAKES:
            self.cut_short = True
            raise UnreadableError

    def stop(self, mistake: Mistake) -> NoReturn:
        """Adds a mistake after which nothing can be read.

        Raises:
            UnreadableError: always.
        """
        self.found.append(mistake)
        raise UnreadableError

    def replace_from(self, mistake: Mistake) -> None:
        """Replaces all mistakes after ``mistake``, which it caused, by it."""
        self.found = [entry for entry in self.found if entry.start < mistake.start]
        self.found.append(mistake)
        self.cut_short = False

    @property
    def mostly_misplaced(self) -> bool:
        """Whether one missing brace may have caused most mistakes."""
        return 2 * sum(mistake.misplaced for mistake in self.found) > len(self.found)

    def sentences(self, path: str, positions: Positions) -> list[str]:
        """A sentence for each mistake, and a last one if there may be more."""
        result = describe_mistakes(self.found, path, positions)
        if self.cut_short:
            result.append(f"{path}: only the first {MOST_MISTAKES} mistakes are shown")
        return result


def describe_mistakes(mistakes: list[Mistake], path: str, positions: Positions) -> list[str]:
    """Mistakes in order of place, each with file, line, column and layer."""
    result = []
    for mistake in sorted(mistakes, key=operator.attrgetter("start")):
        line, column = positions.locate(mistake.start)
        name = "" if mistake.layer is None else layer_name(mistake.layer)
        who = f"layer {name!r}: " if name else ""
        result.append(f"{path}:{line}:{column}: {who}{mistake.sentence}")
    return result
