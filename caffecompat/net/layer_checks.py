"""Checks of layer definitions while a net is built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from caffecompat.errors import (
    LayerError,
    NetError,
    UnknownLayerType,
    UnknownName,
    first_line,
    suggestion,
)
from caffecompat.graph import Graph, LayerNode, Version
from caffecompat.graph.build import MOST_MISTAKES
from caffecompat.layers import BuildOptions, Layer, Source, catalogue
from caffecompat.layers.fillers import FORK_FIELDS, fillers
from caffecompat.layers.forks._known_types import layer_to_start_from, origin_of
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.proto.fork_fields import ForeignField, effective_fields
from caffecompat.reporting.units import format_shape

AUTOMATIC_TOP = "(automatic)"


def layer_classes(graph: Graph, options: BuildOptions) -> list[type[Layer] | None]:
    """The class of each layer of ``graph``; None for automatic splits.

    Raises:
        UnknownName, NetError: layer types do not exist, one error names all of them; or the
            dialect is no fork's.
        LayerError: nothing tells which fork's layer type is meant.
    """
    catalogue.check_dialect(options.dialect)
    unknown: list[LayerNode] = []
    classes: list[type[Layer] | None] = []
    for node in graph:
        try:
            classes.append(class_of(node, options))
        except UnknownName:
            unknown.append(node)
    if unknown:
        raise _unknown_types(unknown)
    return classes


def _unknown_types(nodes: Sequence[LayerNode]) -> UnknownLayerType | NetError:
    """One error for layers of unknown types, at most the first hundred."""
    found = [_explained(node) for node in nodes[:MOST_MISTAKES]]
    if len(nodes) == 1:
        return found[0]
    more = len(nodes) - len(found)
    rest = [f"and {more:,} more layers of unknown types"] if more else []
    error = NetError("\n".join([*(one.sentence for one in found), *rest, found[0].advice]))
    error.copied = found[0].copied
    return error


def _explained(node: LayerNode) -> UnknownLayerType:
    """Which forks define an unknown layer type, and a layer to start from."""
    origin = origin_of(node.type, catalogue)
    sentence = f"unknown layer type {node.type!r} in {_where(node)}{origin}"
    code = layer_to_start_from(node.type, len(node.bottoms), len(node.message.top))
    advice = (
        f"To compute {node.type!r} yourself, write its formula into this file and import it before "
        f"the net is built (docs/layers.md):\n\n{code}"
    )
    return UnknownLayerType(sentence, node.type, advice)


def class_of(node: LayerNode, options: BuildOptions) -> type[Layer] | None:
    """The class of a layer; None for automatic splits.

    It is one that runs the user's code where that is allowed and there.

    Raises:
        UnknownName: the layer type does not exist.
        LayerError: nothing tells which fork's layer type is meant.
    """
    if node.automatic:
        return None
    message = node.message
    chosen = catalogue.choose(message, options.dialect, _where(node))
    if options.allow_python and not chosen.imports_code:
        for layer_class in catalogue.definitions(message.type):
            if layer_class.imports_code and layer_class.finds_code(message):
                return layer_class
    return chosen


def _where(node: LayerNode) -> str:
    """The node's place without its type, which the message names already."""
    return node.place.removesuffix(f" ({node.type})")


def check_stated_shapes(
    graph: Graph, classes: Sequence[type[Layer] | None], options: BuildOptions
) -> None:
    """Refuses stated shapes of tops that no source has, and of nets that read data."""
    sources = [
        top
        for node, layer_class in zip(graph, classes, strict=True)
        if layer_class is not None and issubclass(layer_class, Source)
        for top in node.message.top
    ]
    for name, shape in options.shapes.items():
        if name not in sources:
            raise NetError(
                f"a shape is stated for {name!r}, which no data or input layer has as its top"
                f"{suggestion(name, sources)}"
            )
        if not shape or min(shape) < 1:
            raise NetError(f"the stated shape of {name!r} is {format_shape(shape)}; give sizes")
    if options.shapes and not options.shapes_only:
        raise NetError("shapes can be stated for a net that is built with shapes_only=True")


def supports(layer_class: type[Layer], one: ForeignField) -> bool:
    """Whether layers of this class may have a field of a fork."""
    return (
        one.path in layer_class.fork_fields
        or one.path in layer_class.ignored_fork_fields
        or (one.message == "FillerParameter" and one.field in FORK_FIELDS)
    )


def check_fork_fields(
    node: LayerNode, layer_class: type[Layer], lenient: bool, notes: list[str]
) -> None:
    """Refuses fields of forks that the layer type does not support; with ``lenient`` notes them."""
    lost = [one for one in effective_fields(node.message) if not supports(layer_class, one)]
    if not lost:
        return
    paths = ", ".join(one.path for one in lost)
    meaning = lost[0].meaning
    why = "from another Caffe version" if meaning is None else meaning.sentence
    sentence = f"{node.place}: {paths}: {why}; not supported by this layer type"
    # An unknown enum value ("field: VALUE") cannot be ignored: the field has no other value.
    if any(": " in one.path for one in lost):
        raise LayerError(f"{sentence}; remove it, or give another value", node.place)
    if not lenient:
        remedy = "remove it, or ignore it with lenient=True (--lenient)"
        raise LayerError(f"{sentence}; {remedy}", node.place)
    notes.append(f"{sentence}; ignored")


def checked_tops(node: LayerNode, layer_class: type[Layer], automatic: int) -> tuple[Version, ...]:
    """The tops, including an automatic one; checks their number and in-place computation.

    Raises:
        LayerError: the type does not allow this number of bottoms or tops, or works not in place.
    """
    tops = node.tops
    if layer_class.automatic_top and len(tops) < layer_class.tops.min:
        tops = (*tops, Version(AUTOMATIC_TOP, automatic))
    for kind, allowed, found in (
        ("bottom", layer_class.bottoms, node.bottoms),
        ("top", layer_class.tops, tops),
    ):
        if not allowed.admits(len(found)):
            names = ", ".join(repr(str(version)) for version in found) or "none"
            sentence = f"{node.place}: takes {allowed} {kind}(s), found {names}"
            raise LayerError(sentence, node.place)
    shared = set(node.message.bottom) & set(node.message.top)
    if shared and not layer_class.in_place:
        raise LayerError(
            f"{node.place}: cannot work in place on {sorted(shared)[0]!r}; "
            "give its top a name of its own",
            node.place,
        )
    return tops


def notes_on_unused_fields(node: LayerNode, layer: Layer, known: frozenset[str]) -> list[str]:
    """Notes on fields of the definition that the layer type, as in Caffe, does not use."""
    fields = [field.name for field, _ in node.message.ListFields()]
    unused = [name for name in fields if name.endswith("_param") and name not in known]
    for path in layer.ignored_fields:
        message, _, field = path.partition(".")
        if getattr(node.message, message).HasField(field):
            unused.append(path)
    if not unused:
        return layer.notes
    return [*layer.notes, f"{node.place}: {', '.join(unused)} has no effect on this layer type"]


def shape_error(
    place: str, bottoms: Iterable[object], shapes: Iterable[Sequence[int]], error: Exception
) -> LayerError:
    """The error to show where a layer's setup, inference or pass raised ``error``.

    Args:
        place: of the layer.
        bottoms: their names, or what is printed as those.
        shapes: theirs.
        error: what torch or Python raised.
    """
    named = ", ".join(
        f"{bottom} {format_shape(shape)}" for bottom, shape in zip(bottoms, shapes, strict=True)
    )
    sentence = f"{place}: cannot work on bottom(s) {named}: {first_line(error)}"
    return LayerError(sentence, place)


def check_fillers(layers: Sequence[BuiltLayer]) -> None:
    """Refuses unknown fillers, in nets whose parameters are never filled.

    Raises:
        UnknownName: there is no such filler.
    """
    for built in layers:
        for spec in built.layer.specs if built.layer is not None else ():
            fillers.find(spec.filler.type, f"{built.place}: {spec.name}")
