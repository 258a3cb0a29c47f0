"""The exceptions that caffecompat raises on purpose.

::

    CaffeError                          one base, for a single ``except``
    ├── FileProblem      (OSError)      missing, unreadable or unwritable file
    │   └── ShapesUnknown               of a data layer's tops, since its files are missing
    ├── FormatError      (ValueError)   damaged file, or file of another type
    │   └── TextError                   mistakes in prototxt text, each with line and column
    ├── UnknownName      (LookupError)  no layer type, verb, policy, filler ... of that name
    ├── NetError         (ValueError)   a net definition that cannot be built
    │   ├── WiringError                 bottoms and tops that do not make a graph
    │   └── LayerError                  invalid parameters or bottoms of one layer
    │       └── CodeNotAllowed          it runs the user's code, which was not allowed
    ├── BlobError        (KeyError)     no blob or layer of that name in a net
    ├── WeightsError     (ValueError)   weights that do not match a net
    ├── DataError        (ValueError)   a record or an image that cannot be used
    ├── SolverError      (ValueError)   invalid solver settings or solver states
    ├── ExportError      (ValueError)   a model that another program's format cannot hold
    └── MissingExtra     (ImportError)  an optional library is not installed

Every message states the place, the subject, what was found, what was expected, and the remedy.
The command line prints ``str(error)``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


class CaffeError(Exception):
    """Base class of all exceptions that caffecompat raises on purpose.

    Attributes:
        copied: the end of the message, behind a blank line, if it is a text for the user to copy.
    """

    copied = ""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__

    @property
    def brief(self) -> str:
        """The message without a list of everything that would have been right."""
        return str(self)


class FileProblem(CaffeError, OSError):
    """A file is missing, cannot be read or cannot be written."""


class ShapesUnknown(FileProblem):
    """The shapes of a data layer's tops are unknown, since its files are missing.

    Args:
        problem: the layer, and what is unknown.
        advice: what to state or to create, after the problem.
        image: the top whose shape is that of images; the others follow from it. Empty where only
            the files tell what the tops hold.
    """

    def __init__(self, problem: str, advice: str = "", image: str = "") -> None:
        super().__init__(f"{problem}{advice}")
        self.problem = problem
        self.image = image


class FormatError(CaffeError, ValueError):
    """A file was read, but its content is damaged or of another type."""


class TextError(FormatError):
    """Prototxt text with one or more mistakes.

    ``problems`` holds one sentence per mistake, each starting with ``file:line:column``.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UnknownName(CaffeError, LookupError):
    """A name without an entry; the message suggests the nearest known name.

    Args:
        kind: the kind of the entry, e.g. ``"layer type"``.
        name: the requested name.
        known: all valid names.
        place: where the name was used, e.g. ``"net.prototxt:41 (layer 'conv1')"``.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], place: str = "") -> None:
        where = f" in {place}" if place else ""
        super().__init__(f"unknown {kind} {name!r}{where}")
        self.kind = kind
        self.name = name
        self._known = tuple(known)

    def __str__(self) -> str:
        # Only here, since it takes a while to find a near name, and thousands may be unknown.
        return super().__str__() + suggestion(self.name, self._known)

    @property
    def brief(self) -> str:
        near = nearest_name(self.name, sorted(self._known))
        return super().__str__() + (f"; did you mean {near!r}?" if near else "")


class UnknownLayerType(UnknownName):
    """A layer type without a class.

    Args:
        sentence: which type, where, and who defines it.
        name: the type.
        advice: how to write the type, after the sentences about all unknown types.
    """

    def __init__(self, sentence: str, name: str, advice: str = "") -> None:
        CaffeError.__init__(self, f"{sentence}\n{advice}" if advice else sentence)
        self._known = ()
        self.kind, self.name = "layer type", name
        self.sentence, self.advice = sentence, advice
        self.copied = advice.partition("\n\n")[2]


class NetError(CaffeError, ValueError):
    """A net definition that cannot be built or run."""


@dataclass(frozen=True)
class AbsentBottom:
    """A bottom that a layer reads and that only layers of other states make.

    Attributes:
        layer: the name of the layer that reads it.
        blob: its name.
        phases: those in which layers make it, ``"TRAIN"`` or ``"TEST"`` or both.
    """

    layer: str
    blob: str
    phases: tuple[str, ...]


class WiringError(NetError):
    """Bottoms and tops of a net that do not make a graph.

    Args:
        sentence: one line per mistake.
        absent: those bottoms that layers of other states make.
    """

    def __init__(self, sentence: str, absent: Sequence[AbsentBottom] = ()) -> None:
        super().__init__(sentence)
        self.absent = tuple(absent)


class LayerError(NetError):
    """The parameters, bottoms or bottom shapes of a layer are invalid.

    Args:
        place: that of the layer, e.g. ``"net.prototxt:41: layer 'conv1' (Convolution)"``, where
            the error is about one of a net's layers.
    """

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


class CodeNotAllowed(LayerError):
    """A layer runs the user's code, which was not allowed."""


class BlobError(CaffeError, KeyError):
    """A blob or layer name that the net does not have."""


class WeightsError(CaffeError, ValueError):
    """Weights that do not match the net that they are loaded into."""


class DataError(CaffeError, ValueError):
    """A record, image or mean that a data layer cannot use."""


class SolverError(CaffeError, ValueError):
    """Invalid solver settings, or a solver state that cannot be used."""


class ExportError(CaffeError, ValueError):
    """The format of another program cannot hold a model."""


class MissingExtra(CaffeError, ImportError):
    """An optional library is not installed; the message has the command that installs it."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an extra: pip install '{_installable()}[{extra}]'")


@contextmanager
def needing_extra(purpose: str, extra: str) -> Iterator[None]:
    """Context for imports of an optional library.

    Args:
        purpose: what needs it, the beginning of the message.
        extra: the extra of this package that has it.

    Raises:
        MissingExtra: an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtra(purpose, extra) from error


def _installable() -> str:
    """What pip takes for this package: its name where it is installed, else its checkout.

    No index is to be asked for a name that nobody has registered there.
    """
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path

    checkout = Path(__file__).parents[1]
    try:
        distribution("caffecompat")
    except PackageNotFoundError:
        if (checkout / "pyproject.toml").exists():
            return str(checkout)
    return "caffecompat"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its type if the text is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


# Names of files are compared only up to a length and a number: a comparison takes time with the
# square of the length, and a net may have thousands of unknown names. The list is cut, too.
_MOST_CHARACTERS, _MOST_COMPARED = 100, 500
_MOST_CHARACTERS_LISTED = 4000


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, else all of them."""
    names = sorted(known)
    near = nearest_name(name, names)
    if near:
        return f"; did you mean {near!r}?"
    if not names:
        return ""
    return f"; known: {_listed(names)}"


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """The known name that is most alike, if one is; case does not count."""
    if len(name) > _MOST_CHARACTERS:
        return None
    by_fold = {c.lower(): c for c in names if len(c) <= _MOST_CHARACTERS}
    likely = list(by_fold)
    if len(likely) > _MOST_COMPARED:
        start = name[:2].lower()
        likely.sort(key=lambda c: (c[:2] != start, abs(len(c) - len(name))))
    near = difflib.get_close_matches(name.lower(), likely[:_MOST_COMPARED], n=1, cutoff=0.6)
    return by_fold[near[0]] if near else None


def _listed(names: Sequence[str]) -> str:
    """The names with commas between them; of a long list the beginning, and how many more."""
    text = ", ".join(names)
    if len(text) <= _MOST_CHARACTERS_LISTED:
        return text
    shown: list[str] = []
    left = _MOST_CHARACTERS_LISTED
    for name in names:
        shown.append(name if len(name) <= _MOST_CHARACTERS else f"{name[:_MOST_CHARACTERS]}...")
        left -= len(shown[-1]) + 2
        if left < 0:
            break
    more = len(names) - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more else "")
