"""Net definitions: reads them from files or messages and upgrades them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from caffecompat.errors import NetError
from caffecompat.graph import Graph, build_graph, net_state
from caffecompat.layers import BuildOptions, catalogue
from caffecompat.net.layer_checks import supports
from caffecompat.proto import files, schema
from caffecompat.proto.fork_fields import ForeignField, foreign_settings


@dataclass(frozen=True)
class Definition:
    """An upgraded NetParameter.

    Attributes:
        place: gives ``file:line`` for the n-th layer with a name; None for a net in memory.
        path: the prototxt that the net was read from; None for a net in memory.
        notes: the upgrades, and the fields that are ignored.
        skipped: those notes that are about fields that a lenient reader does not know.
        dialect: the fork of Caffe whose layer types are meant, for nets that are built without
            another one; see :class:`caffecompat.layers.BuildOptions`.
        lenient: whether its nets pass over settings of forks that layer types do not support.
    """

    message: Any
    place: Callable[[str, int], str] | None = None
    notes: list[str] = field(default_factory=list)
    dialect: str = ""
    lenient: bool = False
    path: str | None = None
    skipped: Sequence[str] = ()

    def complete(self, options: BuildOptions) -> BuildOptions:
        """The options of a net of this definition: with its dialect where they state none."""
        return replace(
            options,
            dialect=options.dialect or self.dialect,
            lenient=options.lenient or self.lenient,
        )


def read_definition(source: Any, lenient: bool = False, max_bytes: int | None = None) -> Definition:
    """The definition in a prototxt or in a NetParameter message, which is not changed.

    Args:
        source: a path, a message, or a definition that this function has returned.
        lenient: ignore unknown fields.
        max_bytes: the largest prototxt to read, see :func:`caffecompat.proto.files.read_net`.

    Raises:
        FileProblem, TextError: the file is missing or does not parse.
        NetError: an old definition cannot be upgraded.
    """
    if isinstance(source, Definition):
        return source
    if isinstance(source, (str, os.PathLike)):
        message, lines = files.read_net(source, lenient, max_bytes)
        notes = [*lines.warnings, *lines.notes, *fork_notes(message), *_without_effect(message)]
        dialect = _implied_dialect(message, notes)
        return Definition(message, lines.place, notes, dialect, False, lines.path, lines.warnings)
    message = schema.new("NetParameter")
    if type(source) is not type(message):
        raise NetError(
            f"a net is built from the path of a prototxt or from a NetParameter message, found "
            f"{type(source).__name__}"
        )
    message.CopyFrom(source)
    notes = [*files.upgrade_net(message), *fork_notes(message), *_without_effect(message)]
    return Definition(message, None, notes, _implied_dialect(message, notes))


def _implied_dialect(message: Any, notes: list[str]) -> str:
    """The fork whose layer types a net means by one that only this fork has; adds a note."""
    dialect, telling = catalogue.implied_dialect(layer.type for layer in message.layer)
    if dialect:
        notes.append(
            f"its {telling} layer tells that the layer types are those of dialect {dialect!r}; "
            "state another dialect if they are not"
        )
    return dialect


def fork_notes(message: Any) -> list[str]:
    """What is said about fields of forks that the layer types of a NetParameter do not support."""
    return foreign_settings(message, _supported)


def _supported(layer_type: str, field: ForeignField) -> bool:
    return any(supports(one, field) for one in catalogue.definitions(layer_type))


def graph_of(definition: Definition, phase: str | int, options: BuildOptions) -> Graph:
    """The graph of a definition in a phase, or in the state that the options give.

    Raises:
        NetError: the definition is not a graph, or there is no such phase.
    """
    state = options.state
    if state is None:
        state = net_state(definition.message, phase, options.level, options.stages)
    graph = build_graph(definition.message, state, definition.place, options.strict)
    graph.path = definition.path
    return graph


def _without_effect(message: Any) -> list[str]:
    if not message.debug_info:
        return []
    return ["debug_info of a net has no effect here; set it in the solver"]
