"""Sets up the layers of a graph: layer classes, setup, top shapes, parameter sharing.

Nothing here needs torch; a subclass says where the top shapes come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from caffecompat.errors import CaffeError, NetError
from caffecompat.graph import Graph, LayerNode, Version, resolve_sharing
from caffecompat.layers import BuildOptions, Context, Layer, Shape, Source
from caffecompat.layers._counter_rng import Noise
from caffecompat.net.backward_needs import notes_on_ignored_propagate_down, stopped_bottoms
from caffecompat.net.batch_shard import cut, rows_of
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.input_gradients import blocked_bottoms
from caffecompat.net.layer_checks import (
    AUTOMATIC_TOP,
    check_fork_fields,
    checked_tops,
    class_of,
    notes_on_unused_fields,
    shape_error,
)
from caffecompat.net.parameters.embedded import check_embedded
from caffecompat.net.parameters.state_dict_names import module_name
from caffecompat.net.setup.loss_weights import loss_weights, notes_on_read_losses
from caffecompat.proto.schema import Message

if TYPE_CHECKING:
    from caffecompat.net.module import LayerModule

# Of torch's unique names for them, each is longer than the one before.
MOST_OF_ONE_NAME = 1000


@dataclass(frozen=True)
class ShapelessLayer:
    """A layer after its setup, before its top shapes are known.

    Attributes:
        bottoms: the shapes of its bottoms.
        tops: how many tops it has, automatic ones included.
    """

    layer: Layer
    node: LayerNode
    bottoms: list[Shape]
    tops: int


class LayerBuilder(ABC):
    """Builds the layers of a graph one after another; notes on them go to ``graph.notes``.

    Args:
        definition: the whole NetParameter, including layers of other states.

    Attributes:
        position: index of the running pass, for all layers that draw numbers: a tensor, or None
            where no pass runs.
        opened: the sources that were built, to be closed if a later layer is refused.
    """

    def __init__(self, graph: Graph, options: BuildOptions, definition: Message) -> None:
        self.position: Any = None
        self.opened: list[Source] = []
        self._graph = graph
        self._options = options
        self._definition = definition
        self._shapes: dict[Version, Shape] = {}
        self._settings: dict[str, frozenset[str]] = {}
        self._keys: set[str] = set()
        self._named: Counter[str] = Counter()
        self._automatic_tops = 0

    @abstractmethod
    def shapes_and_module(
        self, layer: ShapelessLayer
    ) -> tuple[Sequence[Shape], LayerModule | None]:
        """The top shapes of a layer that is no source, and its module if nets of it run."""

    def build_all(self, classes: Sequence[type[Layer] | None]) -> list[BuiltLayer]:
        """Builds all layers, of these classes; closes their sources if a layer is refused."""
        try:
            built = [self.build(*pair) for pair in zip(self._graph, classes, strict=True)]
            counts = [len(b.layer.specs) if b.layer else 0 for b in built]
            sharing = resolve_sharing(self._graph.layers, counts)
            layers = [replace(b, uses=uses) for b, uses in zip(built, sharing, strict=True)]
            stopped = stopped_bottoms(layers, self._graph.force_backward)
            self._graph.notes += notes_on_ignored_propagate_down(layers, stopped)
            return [replace(b, blocked=where) for b, where in zip(layers, stopped, strict=True)]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the sources that were built."""
        for source in self.opened:
            source.close()

    def build(self, node: LayerNode, layer_class: type[Layer] | None) -> BuiltLayer:
        """Builds the next layer; without a class it is an automatic split."""
        bottoms = [self._shapes[bottom] for bottom in node.bottoms]
        if layer_class is None:
            built = self._build_split(node, bottoms)
        else:
            built = self._build_layer(node, layer_class, bottoms)
        self._shapes.update(zip(built.tops, built.shapes, strict=True))
        return built

    def build_if_possible(self, node: LayerNode) -> BuiltLayer | CaffeError | None:
        """The next layer, or the reason why it cannot be built; None if a bottom is unknown."""
        if not self._shapes.keys() >= set(node.bottoms):
            return None
        try:
            return self.build(node, class_of(node, self._options))
        except CaffeError as error:
            return error

    def _build_split(self, node: LayerNode, bottoms: list[Shape]) -> BuiltLayer:
        return BuiltLayer(
            node=node,
            key=self._new_key(node),
            layer=None,
            module=None,
            tops=node.tops,
            shapes=bottoms * len(node.tops),
            loss_weights=node.loss_weights or (0.0,) * len(node.tops),
            read=tuple(top in self._graph.read for top in node.tops),
            blocked=(False,),
        )

    def _build_layer(
        self, node: LayerNode, layer_class: type[Layer], bottoms: list[Shape]
    ) -> BuiltLayer:
        graph = self._graph
        check_fork_fields(node, layer_class, self._options.lenient, graph.notes)
        tops = checked_tops(node, layer_class, self._automatic_tops)
        layer = self._set_up(node, layer_class, bottoms)
        graph.notes += check_embedded(node, layer)
        graph.notes += notes_on_unused_fields(node, layer, self._settings_of(layer))
        module, rows = None, None
        shapes: Sequence[Shape]
        if isinstance(layer, Source):
            rows = rows_of(layer, layer.context)
            shapes = cut(layer.shapes, rows)
        else:
            shapeless = ShapelessLayer(layer, node, bottoms, len(tops))
            shapes, module = self.shapes_and_module(shapeless)
        for top, shape in zip(tops, shapes, strict=True):
            layer.check_size(shape, f"top {str(top)!r}")
        weights = loss_weights(node, layer_class, len(tops))
        read = tuple(top in graph.read for top in tops)
        graph.notes += notes_on_read_losses(node, tops, weights, read)
        self._automatic_tops += sum(top.blob == AUTOMATIC_TOP for top in tops)
        return BuiltLayer(
            node=node,
            key=self._new_key(node),
            layer=layer,
            module=module,
            tops=tops,
            shapes=shapes,
            loss_weights=weights,
            read=read,
            blocked=blocked_bottoms(node, graph.force_backward),
            rows=rows,
        )

    def _set_up(self, node: LayerNode, layer_class: type[Layer], bottoms: list[Shape]) -> Layer:
        """The layer after its setup."""
        asks = layer_class.reads_definition or issubclass(layer_class, Source)
        definition = self._definition if asks else None
        path = self._graph.path
        layer = layer_class(Context(node.phase, node.place, self._options, definition, path))
        if isinstance(layer, Source):
            self.opened.append(layer)
        layer.noise = Noise(self._options.seed, node.name, self.position)
        given = self._options.shapes
        stated = {top: tuple(given[top]) for top in node.message.top if top in given}
        try:
            if stated and isinstance(layer, Source):
                layer.state_shapes(node.message, stated)
            else:
                layer.setup(node.message, bottoms)
        except CaffeError:
            raise
        except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
            raise shape_error(node.place, node.bottoms, bottoms, error) from error
        return layer

    def _settings_of(self, layer: Layer) -> frozenset[str]:
        """The fields of LayerParameter that the layer's type reads, cached by type."""
        if layer.type not in self._settings:
            self._settings[layer.type] = frozenset(layer.settings())
        return self._settings[layer.type]

    def _new_key(self, node: LayerNode) -> str:
        """A module name for torch, where names are unique; in Caffe two layers may share one."""
        before = self._named[node.name]
        self._named[node.name] += 1
        if before >= MOST_OF_ONE_NAME:
            raise NetError(
                f"{node.place}: more than {MOST_OF_ONE_NAME:,} layers have this name; give each "
                "its own"
            )
        key = module_name(node.name) + "%" * before
        while key in self._keys:
            key += "%"
        self._keys.add(key)
        return key
