"""Records of a database that a list names, with labels of the list: HD-CNN's ``selective_list``."""

from __future__ import annotations

from dataclasses import replace

from caffecompat.data.backends.database import Database
from caffecompat.data.sources.base import DatabaseSamples, RawSample, Sample
from caffecompat.data.transforms.transform import Transform
from caffecompat.errors import DataError
from caffecompat.input_files import read_input
from caffecompat.reporting.terminal import shorten


def read_selection(path: str, max_bytes: int | None = None) -> list[tuple[bytes, int]]:
    """The keys and labels of a list: two words in each line.

    Raises:
        FileProblem, FormatError: it cannot be read.
        DataError: a line is no key and label, or there is none.
    """
    found = []
    for number, line in enumerate(read_input(path, max_bytes).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not words[1].removeprefix(b"-").isdigit() or len(words[1]) > 10:
            shown = shorten(line.decode(errors="backslashreplace"), 60)
            raise DataError(
                f"{path}: line {number} is {shown!r}; expected the key of a record and a label"
            )
        found.append((words[0], int(words[1])))
    if not found:
        raise DataError(f"{path}: it names no records; give a key and a label in each line")
    return found


class SelectedSamples(DatabaseSamples):
    """The listed records of a database, in the order of the list; the first follows the last.

    Args:
        listed: keys and labels; a key may come several times.
        shuffle_seed: the seed of the orders in which passes take them; None for that of the list.

    Raises:
        DataError: the database has no record with a key.
    """

    def __init__(
        self,
        database: Database,
        transform: Transform,
        listed: list[tuple[bytes, int]],
        shuffle_seed: int | None = None,
    ) -> None:
        super().__init__(database, transform, shuffle_seed, len(listed))
        wanted = {key for key, _ in listed}
        places = {key: i for i, key in enumerate(database.keys()) if key in wanted}
        absent = next((key for key, _ in listed if key not in places), None)
        if absent is not None:
            shown = shorten(absent.decode(errors="backslashreplace"), 60)
            raise DataError(
                f"{database.path}: selective_list names the key {shown!r}, which no record has"
            )
        self._records = [places[key] for key, _ in listed]
        self._labels = [label for _, label in listed]

    def fetch(self, ordinal: int) -> RawSample:
        position = self.position_of(ordinal)
        return RawSample(ordinal, position, *self._database.read(self._records[position]))

    def decode(self, raw: RawSample) -> Sample:
        return replace(super().decode(raw), label=self._labels[raw.position])

    def largest_label(self, most: int, most_bytes: int) -> tuple[int, int] | None:
        return max(self._labels), len(self._labels)
