"""Builds the layers of a net: layer classes, setup, top shapes, loss weights, sharing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from caffecompat.errors import CaffeError, LayerError, NetError, UnknownName, first_line, suggestion
from caffecompat.graph import Graph, LayerNode, ParameterUse, Version, resolve_sharing
from caffecompat.layers import BuildOptions, Context, Layer, Shape, Source, catalogue
from caffecompat.layers._base import format_shape
from caffecompat.layers._counter_rng import Noise
from caffecompat.net.batch_shard import cut, rows_of
from caffecompat.net.module import LayerModule
from caffecompat.net.parameters.embedded import check_embedded
from caffecompat.net.parameters.state_dict_names import module_name
from caffecompat.proto import schema
from caffecompat.proto.fork_fields import foreign_fields
from caffecompat.proto.schema import Message

AUTOMATIC_TOP = "(automatic)"


@dataclass
class BuiltLayer:
    """A layer of a net after its setup: its shapes are known, its parameters are on ``meta``.

    Attributes:
        node: the layer's node in the graph.
        key: the name of its module in torch.
        layer: None for automatic splits.
        module: None for automatic splits and for sources.
        tops: the versions of its tops, including automatic ones.
        shapes: the shapes of its tops.
        loss_weights: the loss weights of its tops.
        read: for each top, whether another layer reads it. The gradient of such a top comes from
            its readers alone: its loss weight counts in the printed loss, but does not train.
        blocked: for each bottom, whether its gradient is stopped (``propagate_down: false``).
        uses: its parameters, with their owners and multipliers.
        rows: for a source, the rows to keep of each top; None for all.
    """

    node: LayerNode
    key: str
    layer: Layer | None
    module: LayerModule | None
    tops: tuple[Version, ...]
    shapes: list[Shape]
    loss_weights: tuple[float, ...]
    read: tuple[bool, ...]
    blocked: tuple[bool, ...]
    uses: list[ParameterUse] = field(default_factory=list)
    rows: list[slice] | None = None

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def type(self) -> str:
        return self.node.type

    @property
    def place(self) -> str:
        return self.node.place

    @property
    def bottoms(self) -> tuple[Version, ...]:
        return self.node.bottoms

    @property
    def source(self) -> Source | None:
        return self.layer if isinstance(self.layer, Source) else None


def build_layers(graph: Graph, options: BuildOptions, definition: Message) -> list[BuiltLayer]:
    """Sets up every layer of ``graph``, in order.

    Args:
        definition: the whole NetParameter, including layers of other states.

    Raises:
        UnknownName, NetError: layer types do not exist; one error names all of them.
        LayerError: a layer refuses its definition or its bottoms.
    """
    classes = _layer_classes(graph)
    _check_stated(graph, classes, options)
    built: list[BuiltLayer] = []
    state = _BuildState(definition)
    try:
        for node, layer_class in zip(graph, classes, strict=True):
            layer = _build_layer(node, layer_class, graph, options, state)
            state.add(layer)
            built.append(layer)
        counts = [len(b.layer.specs) if b.layer else 0 for b in built]
        for layer, uses in zip(built, resolve_sharing(graph.layers, counts), strict=True):
            layer.uses = uses
    except BaseException:
        for source in state.opened:
            source.close()
        raise
    return built


def _check_stated(
    graph: Graph, classes: Sequence[type[Layer] | None], options: BuildOptions
) -> None:
    """Refuses stated shapes of tops that are not tops of sources, and of nets that read data."""
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


@dataclass
class _BuildState:
    """The state of :func:`build_layers` before the next layer.

    Attributes:
        definition: the whole NetParameter.
        shapes: the shapes of all blobs so far.
        inferred: cached top shapes by layer type, settings and bottom shapes.
        settings: by layer type, the fields of LayerParameter that it reads.
        keys: the names of torch modules so far.
        automatic: the number of automatic tops so far.
        opened: the sources so far, which are closed if a later layer is refused.
        position: index of the running pass, for all layers that draw numbers.
    """

    definition: Message
    shapes: dict[Version, Shape] = field(default_factory=dict)
    inferred: dict[tuple[Any, ...], list[Shape]] = field(default_factory=dict)
    settings: dict[str, frozenset[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    automatic: int = 0
    opened: list[Source] = field(default_factory=list)
    position: torch.Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def settings_of(self, layer: Layer) -> frozenset[str]:
        """The fields of LayerParameter that the layer's type reads, cached by type."""
        if layer.type not in self.settings:
            self.settings[layer.type] = frozenset(layer.settings())
        return self.settings[layer.type]

    def add(self, built: BuiltLayer) -> None:
        built.key = _unique(built.key, self.keys)
        self.keys.add(built.key)
        self.shapes.update(zip(built.tops, built.shapes, strict=True))
        self.automatic += sum(top.blob == AUTOMATIC_TOP for top in built.tops)


def _refuse_foreign_fields(
    node: LayerNode, layer_class: type[Layer], lenient: bool, notes: list[str]
) -> None:
    """Refuses fields of forks that the layer type does not support; with ``lenient`` notes them."""
    lost = [name for name in foreign_fields(node.message) if name not in layer_class.fork_fields]
    if not lost:
        return
    sentence = (
        f"{node.place}: {', '.join(lost)}: from another Caffe version, not supported by this "
        "layer type"
    )
    # An unknown enum value ("field: VALUE") cannot be ignored: the field has no other value.
    if not lenient or any(": " in name for name in lost):
        raise LayerError(f"{sentence}; remove it, or ignore it with lenient=True (--lenient)")
    notes.append(f"{sentence}; ignored")


def _note_unused_fields(node: LayerNode, layer: Layer, known: frozenset[str]) -> list[str]:
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


def _unique(key: str, taken: set[str]) -> str:
    """Caffe allows two layers with the same name; torch needs unique names."""
    while key in taken:
        key += "%"
    return key


def _layer_classes(graph: Graph) -> list[type[Layer] | None]:
    unknown: list[UnknownName] = []
    classes: list[type[Layer] | None] = []
    for node in graph:
        try:
            classes.append(None if node.automatic else catalogue.find(node.type, _where(node)))
        except UnknownName as error:
            unknown.append(error)
    if len(unknown) == 1:
        raise unknown[0]
    if unknown:
        raise NetError("\n".join(str(error) for error in unknown))
    return classes


def _where(node: LayerNode) -> str:
    """The node's place without its type, which the message names already."""
    return node.place.removesuffix(f" ({node.type})")


def _build_layer(
    node: LayerNode,
    layer_class: type[Layer] | None,
    graph: Graph,
    options: BuildOptions,
    state: _BuildState,
) -> BuiltLayer:
    bottoms = [state.shapes[bottom] for bottom in node.bottoms]
    if layer_class is None:
        weights = node.loss_weights or (0.0,) * len(node.tops)
        split_shapes = bottoms * len(node.tops)
        key = module_name(node.name)
        read = tuple(top in graph.read for top in node.tops)
        return BuiltLayer(node, key, None, None, node.tops, split_shapes, weights, read, (False,))
    _refuse_foreign_fields(node, layer_class, options.lenient, graph.notes)
    tops = _check_wiring(node, layer_class, state.automatic)
    definition = state.definition if issubclass(layer_class, Source) else None
    layer = layer_class(Context(node.phase, node.place, options, definition))
    if isinstance(layer, Source):
        state.opened.append(layer)
    layer.noise = Noise(options.seed, node.name, state.position)
    shapes = options.shapes
    stated = {top: tuple(shapes[top]) for top in node.message.top if top in shapes}
    _set_up(layer, node, bottoms, stated)
    graph.notes += check_embedded(node, layer)
    graph.notes += _note_unused_fields(node, layer, state.settings_of(layer))
    module, rows = None, None
    if isinstance(layer, Source):
        rows = rows_of(layer, layer.context)
        top_shapes = cut(layer.shapes, rows)
    else:
        module = LayerModule(layer)
        top_shapes = _inferred_once(module, node, bottoms, len(tops), state)
    for top, shape in zip(tops, top_shapes, strict=True):
        layer.check_size(shape, f"top {str(top)!r}")
    weights = _loss_weights(node, layer_class, len(tops))
    read = tuple(top in graph.read for top in tops)
    graph.notes += _note_read_losses(node, tops, weights, read)
    return BuiltLayer(
        node,
        module_name(node.name),
        layer,
        module,
        tops,
        top_shapes,
        weights,
        read,
        _blocked(node, graph.force_backward),
        rows=rows,
    )


def _check_wiring(node: LayerNode, layer_class: type[Layer], automatic: int) -> tuple[Version, ...]:
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
            raise LayerError(f"{node.place}: takes {allowed} {kind}(s), found {names}")
    shared = set(node.message.bottom) & set(node.message.top)
    if shared and not layer_class.in_place:
        raise LayerError(
            f"{node.place}: cannot work in place on {sorted(shared)[0]!r}; "
            "give its top a name of its own"
        )
    return tops


def _set_up(
    layer: Layer, node: LayerNode, bottoms: list[Shape], stated: Mapping[str, Shape]
) -> None:
    try:
        if stated and isinstance(layer, Source):
            layer.state_shapes(node.message, stated)
        else:
            layer.setup(node.message, bottoms)
    except CaffeError:
        raise
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        raise LayerError(f"{_with_shapes(node, bottoms)}: {first_line(error)}") from error


def _inferred_once(
    module: LayerModule, node: LayerNode, bottoms: Sequence[Shape], tops: int, state: _BuildState
) -> list[Shape]:
    """The top shapes of a layer, cached by type, settings and bottom shapes.

    Running a layer on ``meta`` tensors takes up to a millisecond, and large nets have many equal
    layers.
    """
    layer = module.layer
    # Layers of other packages may use any part of the message.
    if layer.specs or not type(layer).__module__.startswith("caffecompat.layers."):
        return infer_shapes(module, node, bottoms, tops)
    settings = schema.new("LayerParameter")
    settings.CopyFrom(node.message)
    for name in ("name", "bottom", "top"):
        settings.ClearField(name)
    text = settings.SerializeToString(deterministic=True)
    key = (type(layer), node.phase, text, tops, tuple(bottoms))
    if type(layer).infer is not Layer.infer or key not in state.inferred:
        state.inferred[key] = infer_shapes(module, node, bottoms, tops)
    return list(state.inferred[key])


def infer_shapes(
    module: LayerModule, node: LayerNode, bottoms: Sequence[Shape], tops: int
) -> list[Shape]:
    """Top shapes from bottom shapes, by running the layer on ``meta`` tensors.

    Raises:
        LayerError: the layer cannot work on these shapes.
    """
    try:
        with torch.no_grad():
            result = module.infer(*(torch.empty(shape, device="meta") for shape in bottoms))
    except CaffeError:
        raise
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        raise LayerError(f"{_with_shapes(node, bottoms)}: {first_line(error)}") from error
    values = _as_tuple(result)
    if len(values) < tops:
        raise LayerError(
            f"{node.place}: has {tops} tops, but the layer computes {len(values)}; remove the rest"
        )
    return [tuple(value.shape) for value in values[:tops]]


def _as_tuple(result: Any) -> tuple[torch.Tensor, ...]:
    if result is None:
        return ()
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def _with_shapes(node: LayerNode, bottoms: Sequence[Shape]) -> str:
    named = ", ".join(
        f"{bottom} {format_shape(shape)}"
        for bottom, shape in zip(node.bottoms, bottoms, strict=True)
    )
    return f"{node.place}: cannot work on bottom(s) {named}"


def _loss_weights(node: LayerNode, layer_class: type[Layer], tops: int) -> tuple[float, ...]:
    given = node.loss_weights
    if given and len(given) != tops:
        raise LayerError(
            f"{node.place}: has {len(given)} loss_weight values for {tops} top(s); "
            "give none, or one for each top"
        )
    if given:
        return given
    if tops > 1 and node.message.loss_weight:
        # A split has taken over the loss weights. Caffe refuses a loss type with two tops here.
        return (0.0,) * tops
    return (1.0 if layer_class.is_loss else 0.0, *(0.0,) * (tops - 1))[:tops]


def _note_read_losses(
    node: LayerNode,
    tops: Sequence[Version],
    weights: Sequence[float],
    read: Sequence[bool],
) -> list[str]:
    """Notes on losses that another layer reads: their loss weight gives no gradient."""
    notes = []
    for position, (top, weight) in enumerate(zip(tops, weights, strict=True)):
        if not (weight and read[position]):
            continue
        name = repr(str(top))
        if position < len(node.message.loss_weight):
            given = node.message.loss_weight[position]
            notes.append(
                f"{node.place}: another layer reads {name}: as in Caffe, the printed loss "
                f"counts it {given:g} + {weight:g} times (its loss_weight, and {weight:g} as for "
                f"every loss layer); the gradient is that of {given:g} and of the readers"
            )
        else:
            notes.append(
                f"{node.place}: another layer reads {name} and there is no loss_weight: as in "
                f"Caffe the printed loss counts {name}, but the gradient comes from its "
                f"readers alone; write loss_weight: {weight:g} to train by both"
            )
    return notes


def _blocked(node: LayerNode, force_backward: bool) -> tuple[bool, ...]:
    given = node.message.propagate_down
    if given and len(given) != len(node.bottoms):
        raise LayerError(
            f"{node.place}: has {len(given)} propagate_down values for {len(node.bottoms)} "
            "bottom(s); give none, or one for each bottom"
        )
    if force_backward or not given:
        return (False,) * len(node.bottoms)
    return tuple(not value for value in given)
