"""The catalogue of layer types, in which several forks may define one type differently."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from caffecompat.errors import LayerError, UnknownName
from caffecompat.layers._module_index import modules_by_type
from caffecompat.registry import Registry

# Who defines a type that no fork changed.
BVLC = "BVLC"


class Definition(Protocol):
    """What the catalogue asks of a layer class; see :class:`caffecompat.layers.Layer`."""

    type: ClassVar[str]
    fork: ClassVar[str]
    chosen_by_dialect: ClassVar[bool]
    dialects: ClassVar[tuple[str, ...]]

    @classmethod
    def fits(cls, message: Any) -> bool | None:
        """Whether a LayerParameter means this class; None if it does not tell."""
        ...


LayerClass = TypeVar("LayerClass", bound=Definition)


class Catalogue(Registry[type[LayerClass]]):
    """Layer classes by type and fork.

    A type with one definition has the type as its name in the catalogue. Of several definitions,
    BVLC Caffe's has the type as its name, and each fork's is called like ``"BN (SegNet)"``.
    """

    def __init__(self, package: str) -> None:
        super().__init__("layer type", package)
        self._by_type: dict[str, dict[str, type[LayerClass]]] = {}
        self._package = package

    def register(self, name: str, fork: str = "") -> Callable[[type[LayerClass]], type[LayerClass]]:
        """Decorator that registers a class as the definition of the type ``name`` by ``fork``.

        Raises:
            CaffeError: the type has a definition of that fork already.
        """
        enter = super().register(_qualified(name, fork))

        def enter_class(layer: type[LayerClass]) -> type[LayerClass]:
            layer.type, layer.fork = name, fork
            self._by_type.setdefault(name, {})[fork] = enter(layer)
            return layer

        return enter_class

    def definitions(self, type_name: str) -> list[type[LayerClass]]:
        """All definitions of a layer type, BVLC Caffe's first; empty for an unknown type.

        Only the modules that define the type are imported.
        """
        modules = modules_by_type(self._package).get(type_name, ())
        for module in modules:
            importlib.import_module(module)
        if not modules:
            self._load()
        found = self._by_type.get(type_name, {})
        return [found[fork] for fork in sorted(found)]

    def find(self, name: str, place: str = "") -> type[LayerClass]:
        """The class that has this name in the catalogue.

        Raises:
            UnknownName: there is none.
            LayerError: several forks define the type, but BVLC Caffe does not.
        """
        found = self.definitions(name)
        if len(found) == 1 or (found and not found[0].fork):
            return found[0]
        return _refuse(found, name, place) if found else super().find(name, place)

    def choose(self, message: Any, dialect: str = "", place: str = "") -> type[LayerClass]:
        """The class that a LayerParameter means.

        Args:
            dialect: a word from the name of the fork whose definition is meant, in case the
                LayerParameter does not tell; upper and lower case do not matter.
            place: where the layer is defined, for messages.

        Raises:
            UnknownName: the type is unknown.
            LayerError: nothing tells which of several definitions is meant.
        """
        found = self.definitions(message.type)
        if len(found) < 2:
            return found[0] if found else super().find(message.type, place)
        answers = {layer: layer.fits(message) for layer in found}
        left = [layer for layer in found if answers[layer]]
        left = left or [layer for layer in found if answers[layer] is None]
        if len(left) != 1 and dialect:
            # Where the settings of several are mixed, the stated one names those that it lacks.
            left = [one for one in left or found if dialect.lower() in _words(one.fork)] or left
        if len(left) > 1 and not left[0].fork:
            left = left[:1]
        return left[0] if len(left) == 1 else _refuse(left or found, message.type, place)

    def implied_dialect(self, types: Iterable[str]) -> tuple[str, str]:
        """The dialect that a net's layer types tell, and the type that tells it; empty if none do.

        A definition may state ``implied_by``: types that only its fork has, so that a net with one
        of them means this definition where nothing else tells.

        Args:
            types: those of the whole net.
        """
        present = set(types)
        for name in sorted(present):
            for layer in self.definitions(name) if len(self._by_type.get(name, ())) != 1 else ():
                telling = sorted(present.intersection(getattr(layer, "implied_by", ())))
                if telling:
                    return _words(layer.fork)[0], telling[0]
        return "", ""

    def check_dialect(self, dialect: str) -> None:
        """Refuses the name of a fork that defines no layer type.

        Args:
            dialect: as for :meth:`choose`; empty for none.

        Raises:
            UnknownName: there is no such fork; the message names those that make a difference.
        """
        if not dialect:
            return
        self._load()
        forks = {fork for definitions in self._by_type.values() for fork in definitions}
        if dialect.lower() not in {word for fork in forks for word in _words(fork)}:
            raise UnknownName("dialect", dialect, self._deciding_dialects())

    def _deciding_dialects(self) -> set[str]:
        """The words that choose among definitions, or among what one definition computes."""
        found: set[str] = set()
        for definitions in self._by_type.values():
            chosen = [layer for layer in definitions.values() if layer.chosen_by_dialect]
            if len(chosen) > 1:
                found.update(word for layer in chosen for word in _words(layer.fork))
            found.update(word for layer in definitions.values() for word in layer.dialects)
        return found

    def __contains__(self, name: str) -> bool:
        return bool(self.definitions(name)) or super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self._load()
        names = []
        for name, found in self._by_type.items():
            alone = len(found) == 1
            names += [name if alone else _qualified(name, fork) for fork in found]
        return iter(sorted(names))


def _qualified(name: str, fork: str) -> str:
    return f"{name} ({fork})" if fork else name


def _words(fork: str) -> list[str]:
    return re.split(r"[,\s]+", (fork or BVLC).lower())


def _refuse(found: Sequence[type[LayerClass]], type_name: str, place: str) -> type[LayerClass]:
    where = f"{place}: " if place else ""
    forks = "; ".join(layer.fork or BVLC for layer in found)
    raise LayerError(
        f"{where}several forks of Caffe define the type {type_name!r} differently ({forks}), and "
        f"this definition does not tell which is meant; state one of them, as in "
        f"dialect={_words(found[-1].fork)[0]!r} (--dialect {_words(found[-1].fork)[0]})"
    )
