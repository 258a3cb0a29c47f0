"""The registry of entries that are looked up by name: layer types, formats, verbs, policies."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from caffecompat.errors import CaffeError, UnknownName

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Named entries of one kind, registered by the modules of one package.

    Modules register entries with :meth:`register`. The first look-up imports all modules of the
    package and of its sub-packages, so a new file needs no other change. Users may register
    entries from their own files at any time.

    Args:
        kind: the kind of the entries, for messages ("layer type").
        package: dotted name of the package whose modules register the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._lock = threading.RLock()
        self._loading = False
        self._loaded = False

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Decorator that registers a class or function under ``name``.

        Raises:
            CaffeError: another class or function is registered under that name.
        """

        def enter(entry: Entry) -> Entry:
            previous = self._entries.get(name)
            if previous is not None and _origin(previous) != _origin(entry):
                raise CaffeError(
                    f"{self.kind} {name!r} is registered twice: "
                    f"in {_origin(previous)} and in {_origin(entry)}"
                )
            self._entries[name] = entry
            return entry

        return enter

    def find(self, name: str, place: str = "") -> Entry:
        """The entry called ``name``.

        Args:
            name: exact name.
            place: where the name was used, for the message.

        Raises:
            UnknownName: there is none; the message suggests the nearest name.
        """
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.kind, name, list(self), place) from None

    def __contains__(self, name: str) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        # Re-entrant: a module may use its own registry while it is being imported.
        with self._lock:
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                package = importlib.import_module(self._package)
                for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                    importlib.import_module(module.name)
                self._loaded = True
            finally:
                self._loading = False


def _origin(entry: object) -> str:
    return f"{getattr(entry, '__module__', '?')}.{getattr(entry, '__qualname__', '?')}"
