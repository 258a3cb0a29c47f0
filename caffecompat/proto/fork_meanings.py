"""What the fields and enum values mean that forks of Caffe add to its messages.

The facts are rows of ``fork_meanings.tsv``. Fields that do not change values are accepted in
silence; for others a message says whose they are and what they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("fork_meanings.tsv")
UNKNOWN = "unknown"
NO_FORK = "no fork"


@dataclass(frozen=True)
class Meaning:
    """A row of the table.

    Attributes:
        message: the name of the message, e.g. ``"PoolingParameter"``.
        field: the field, or field and value as ``"engine=MKL2017"``.
        effect: ``"none"``: it does not change values. ``"values"``: it does. ``"type"``: it holds
            the settings of layer types.
        fork: whose Caffe defines it.
        meaning: what it does, as a clause without its subject; for ``"type"`` the layer types,
            separated by commas.
    """

    message: str
    field: str
    effect: str
    fork: str
    meaning: str

    @property
    def types(self) -> list[str]:
        """The layer types whose settings the field holds."""
        return self.meaning.split(", ") if self.effect == "type" else []

    @property
    def sentence(self) -> str:
        """A clause for messages: whose field it is and what it does."""
        if self.fork == NO_FORK:
            return f"no Caffe defines it there: it {self.meaning}"
        named = self.fork if "Caffe" in self.fork else f"the Caffe of {self.fork}"
        whose = "another Caffe" if self.fork == UNKNOWN else named
        what = f"it holds the settings of {self.meaning}" if self.types else f"it {self.meaning}"
        return f"from {whose}, where {what}"


@cache
def meanings() -> dict[tuple[str, str], Meaning]:
    """All rows, by message and field, in the order of the table."""
    found = {}
    for line in TABLE.read_text().splitlines():
        if not line.startswith(("#", "message\t")):
            message, field, effect, fork, meaning = line.split("\t")
            found[message, field] = Meaning(message, field, effect, fork, meaning)
    return found


def meaning_of(message: str, field: str) -> Meaning | None:
    """What a field (or ``"field=VALUE"``) of a message means; None if it is not known.

    A field ``engine`` chooses a library in all messages.
    """
    found = meanings().get((message, field))
    if found is None and field.partition("=")[0] == "engine":
        return Meaning(message, field, "none", UNKNOWN, "chooses the library that computes")
    return found


def has_no_effect(message: str, field: str) -> bool:
    """Whether a field (or ``"field=VALUE"``) of a message does not change values."""
    found = meaning_of(message, field)
    return found is not None and found.effect == "none"
