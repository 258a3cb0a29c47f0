"""Reports of mistakes while a prototxt is read, each with the layer that it is in."""

from __future__ import annotations

from typing import NoReturn

from caffecompat.proto.schema import Message
from caffecompat.proto.text.braces import missing_closer, surplus_closer
from caffecompat.proto.text.hints import unknown_field_hint
from caffecompat.proto.text.mistakes import Mistake, Mistakes, UnreadableError, describe_mistakes
from caffecompat.proto.text.parse_state import ParseState
from caffecompat.proto.text.positions import Positions


class Reporter:
    """Reports mistakes at the place that the parser has reached.

    Attributes:
        mistakes: those that were reported.
        positions: lines and columns of offsets in the text.
    """

    def __init__(self, state: ParseState) -> None:
        self.mistakes = Mistakes()
        self.positions = Positions(state.text)
        self._state = state
        self._open = state.open
        self._text = state.text
        self._skipped: list[Mistake] = []

    def report(self, start: int, sentence: str) -> None:
        """Reports a mistake; the text after it can be read.

        Raises:
            UnreadableError: there are a hundred mistakes.
        """
        self.mistakes.report(Mistake(start, sentence, self._layer()))

    def stop(self, start: int, sentence: str) -> NoReturn:
        """Reports a mistake after which the text cannot be read.

        Raises:
            UnreadableError: always.
        """
        self.mistakes.stop(Mistake(start, sentence, self._layer()))

    def report_unknown_field(self, name: str, start: int) -> None:
        """Reports a field that the schema does not have; lists it if the parser is lenient."""
        entry = self._open[-1]
        enclosing = [(around.label, around.layout) for around in self._open]
        hint = unknown_field_hint(name, enclosing)
        inside = "" if entry.layout.is_layer else f" in {entry.label}"
        sentence = f"unknown field {name!r}{inside}{hint}"
        if self._state.lenient:
            self._skipped.append(Mistake(start, f"skipped: {sentence}", self._layer()))
            self._state.listed += 1
            return
        misplaced = any(name in around.layout.fields for around in self._open)
        self.mistakes.report(Mistake(start, sentence, self._layer(), misplaced))

    def sentences(self, path: str) -> list[str]:
        """A sentence for each mistake, with file, line and column."""
        return self.mistakes.sentences(path, self.positions)

    def warnings(self, path: str) -> list[str]:
        """A sentence for each unknown field that was listed, and one for the others."""
        warnings = describe_mistakes(self._skipped, path, self.positions)
        if self._state.unlisted:
            warnings.append(f"{path}: skipped: {self._state.unlisted:,} more unknown fields")
        return warnings

    def report_missing_closer(self) -> None:
        """Reports the place where a closing brace is missing, if the text shows it.

        Raises:
            UnreadableError: the place was found.
        """
        found = missing_closer(self._text, self._suspect(), self._open[0].layout)
        if found is not None:
            layer = self._layer_at(found.start)
            self.mistakes.replace_from(Mistake(found.start, found.sentence, layer))
            raise UnreadableError

    def report_surplus_closer(self) -> None:
        """Reports the closing brace that is one too many, if the text shows it.

        Raises:
            UnreadableError: it was found.
        """
        found = surplus_closer(self._text, self._suspect(), self._open[0].layout)
        if found is not None:
            self.mistakes.replace_from(Mistake(found.start, found.sentence))
            raise UnreadableError

    def _suspect(self) -> int:
        """Where the field of the top level begins in which the first mistake may be."""
        starts = [place for places in self._state.top_level.values() for place in places]
        limit = min((mistake.start for mistake in self.mistakes.found), default=len(self._text))
        if len(self._open) > 1:
            limit = min(limit, self._open[1].start)
        return max((start for start in starts if start <= limit), default=0)

    def _layer_at(self, start: int) -> Message | None:
        layers = (entry for entry in self._open if entry.layout.is_layer and entry.start < start)
        return next((entry.message for entry in layers), None)

    def _layer(self) -> Message | None:
        layers = (entry.message for entry in reversed(self._open) if entry.layout.is_layer)
        return next(layers, None)
