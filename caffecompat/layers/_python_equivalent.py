"""Built-in equivalents of well-known Python layers, which then run without foreign code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from caffecompat.layers._base import Layer, Message, register
from caffecompat.layers._param_str import parse_param_str

Equivalent = TypeVar("Equivalent", bound="type[PythonEquivalent]")


class PythonEquivalent(Layer):
    """A layer that a net names by a Python class, written anew.

    :func:`register_python_layer` registers it. A net with ``allow_python`` in which the named
    module can be imported runs the module instead.

    Attributes:
        python_layers: the (module, class) pairs that it stands in for.
        options: the keys of ``param_str`` and their values by default. A pair is the value in the
            phases TRAIN and TEST; :data:`REQUIRED` has no default. Keys in capitals are those of
            the original's configuration, which the original does not read from ``param_str``.
        methods: the original's methods that programs call, for which pycaffe's ``net.layers`` has
            them too.
        given: the settings after :meth:`read_options`.
    """

    python_layers: ClassVar[tuple[tuple[str, str], ...]] = ()
    options: ClassVar[Mapping[str, Any]] = {}
    methods: ClassVar[tuple[str, ...]] = ()
    param_fields = ("python_param",)
    chosen_by_dialect = False  # the names of the module and the class choose it

    given: dict[str, Any]

    @classmethod
    def fits(cls, message: Message) -> bool:
        p = message.python_param
        return (p.module, p.layer) in cls.python_layers

    def read_options(self, message: Message) -> None:
        """Reads ``param_str`` into :attr:`given`, and notes that the original does not run."""
        p = message.python_param
        self.note(f"{p.module}.{p.layer} is built in, so that no Python code is needed")
        try:
            found = parse_param_str(p.param_str)
        except ValueError as problem:
            self.refuse(f"cannot read param_str: {problem}")
        unknown = [name for name in found if name not in self.options]
        if unknown:
            self.note(
                f"{', '.join(unknown)} in param_str has no effect; known are "
                f"{', '.join(self.options)}"
            )
        self.given = {name: self._option(name, found) for name in self.options}

    def _option(self, name: str, found: Mapping[str, Any]) -> Any:
        default = self.options[name]
        if isinstance(default, Phases):
            default = default.train if self.training else default.test
        self.check(
            name in found or default is not REQUIRED,
            f"param_str has no {name}; give it as \"'{name}': value\"",
        )
        value = found.get(name, default)
        kind = _kind(default)
        self.check(
            kind is None or default is value or _kind(value) == kind,
            f"param_str: {name} is {value!r}, expected {kind}",
        )
        return value


class Phases:
    """An option's default where the phases differ."""

    def __init__(self, train: Any, test: Any) -> None:
        self.train, self.test = train, test


class _Required:
    """Marks an option that must be a number in ``param_str``."""


REQUIRED = _Required()


def register_python_layer(
    *python_layers: tuple[str, str], fork: str
) -> Callable[[Equivalent], Equivalent]:
    """Class decorator that registers the equivalent of a Python class.

    Args:
        python_layers: (module, class) pairs as in ``python_param``.
        fork: whose class it is, e.g. ``"py-faster-rcnn"``.
    """

    def enter(layer: Equivalent) -> Equivalent:
        layer.python_layers = python_layers
        register("Python", fork=f"{python_layers[0][1]} of {fork}")(layer)
        return layer

    return enter


def _kind(value: Any) -> str | None:
    """What a value is, as a phrase for messages; None for what is not checked."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float) or value is REQUIRED:
        return "a number"
    if isinstance(value, tuple | list):
        return "a list of numbers" if all(_kind(item) == "a number" for item in value) else "a list"
    return "a text" if isinstance(value, str) else None
