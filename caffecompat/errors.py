"""The exceptions a user of caffecompat can meet.

::

    CaffeError                          one base, for a single ``except``
    ├── FileProblem      (OSError)      missing, unreadable or unwritable file
    ├── FormatError      (ValueError)   a file's content is not what it should be
    │   └── TextError                   prototxt text: every mistake with line and column
    ├── UnknownName      (LookupError)  no layer type, verb, policy, filler ... of that name
    ├── NetError         (ValueError)   a net definition that cannot be built
    │   └── LayerError                  one layer refuses its parameters or bottoms
    ├── BlobError        (KeyError)     no blob or layer of that name in a net
    ├── WeightsError     (ValueError)   weights that do not fit a net
    ├── DataError        (ValueError)   a record or an image that cannot be used
    ├── SolverError      (ValueError)   solver settings or states that cannot be used
    └── MissingExtra     (ImportError)  an optional library is not installed

Every message has one shape: place, who, found and expected, way out. ``str(error)`` is what
the command line prints.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CaffeError(Exception):
    """Base of everything that caffecompat raises on purpose."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class FileProblem(CaffeError, OSError):
    """A file is missing, cannot be read or cannot be written."""


class FormatError(CaffeError, ValueError):
    """A file was read, but its content is damaged or of another kind."""


class TextError(FormatError):
    """Prototxt text with one or more mistakes.

    ``problems`` holds one sentence per mistake, each starting with ``file:line:column``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UnknownName(CaffeError, LookupError):
    """A name that no registry entry has; the message offers the nearest ones.

    Args:
        kind: what was looked for, e.g. ``"layer type"``.
        name: the name that was asked for.
        known: all names there are.
        place: where the name stands, e.g. ``"net.prototxt:41 (layer 'conv1')"``.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], place: str = "") -> None:
        where = f" in {place}" if place else ""
        super().__init__(f"unknown {kind} {name!r}{where}{suggestion(name, known)}")
        self.kind = kind
        self.name = name


class NetError(CaffeError, ValueError):
    """A net definition that cannot be built or run."""


class LayerError(NetError):
    """A layer refuses its parameters, its bottoms or their shapes."""


class BlobError(CaffeError, KeyError):
    """A blob or layer name that the net does not have."""


class WeightsError(CaffeError, ValueError):
    """Weights that do not fit the net they are meant for."""


class DataError(CaffeError, ValueError):
    """A record, image or mean that a data layer cannot use."""


class SolverError(CaffeError, ValueError):
    """Solver settings or a solver state that cannot be used."""


class MissingExtra(CaffeError, ImportError):
    """An optional library is needed; the message holds the command that installs it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an extra: pip install 'caffecompat[{extra}]'")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the nearest spelling, or the whole list."""
    names = sorted(known)
    by_fold = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), by_fold, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {by_fold[near[0]]!r}?"
    if not names:
        return ""
    return f"; known: {', '.join(names)}"
