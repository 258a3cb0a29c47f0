"""From a definition to its diagram, also of a net that cannot be built."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from caffecompat.draw.diagram import Blob, Diagram, DrawnLayer, DrawnParameter
from caffecompat.draw.geometry import in_words
from caffecompat.draw.kinds import UNKNOWN, kind_of
from caffecompat.errors import CaffeError, NetError
from caffecompat.graph import (
    Graph,
    LayerNode,
    ParameterUse,
    Version,
    Wiring,
    net_state,
    resolve_sharing,
    wire_layers,
)
from caffecompat.layers import BuildOptions, Layer, catalogue
from caffecompat.net.built_layer import BuiltLayer
from caffecompat.net.definition import Definition
from caffecompat.net.layer_checks import check_stated_shapes, class_of
from caffecompat.net.setup.build import build_each
from caffecompat.proto import schema
from caffecompat.proto.schema import Message
from caffecompat.proto.text.printer import format_text

ALL = "ALL"
PHASES = ("TRAIN", "TEST", ALL)
# The longest definition of one layer that is kept as text, in characters.
_LONGEST_TEXT = 20_000


def diagram_of(
    definition: Definition,
    source: str,
    phase: str = "TEST",
    options: BuildOptions | None = None,
) -> Diagram:
    """The diagram of a definition.

    A layer that cannot be built carries the reason, and shapes after it are unknown.

    Args:
        definition: the upgraded definition.
        source: the name of its file.
        phase: ``"TRAIN"``, ``"TEST"`` or ``"ALL"``, the layers of every phase, level and stage.
        options: level, stages and what may be done to learn shapes.

    Raises:
        NetError: there is no such phase, or no layer in it; a shape is stated for a top that no
            data layer has.
    """
    message = definition.message
    if phase.upper() not in PHASES:
        raise NetError(f"phase is {phase!r}; it must be TRAIN, TEST or ALL")
    phase = phase.upper()
    options = replace(options or BuildOptions(), shapes_only=True)
    state = None if phase == ALL else net_state(message, phase, options.level, options.stages)
    wiring = wire_layers(message, state, definition.place)
    if not wiring.nodes:
        raise NetError(f"{source}: the net has no layers{'' if phase == ALL else f' in {phase}'}")
    reader = _Reader(wiring, phase, definition, options)
    layers = tuple(_without_folder(layer, source) for layer in reader.layers())
    problems = [] if phase == ALL else wiring.problems
    notes = [*definition.notes, *problems, *reader.graph.notes]
    return Diagram(
        name=message.name,
        source=Path(source).name,
        phase=phase,
        layers=layers,
        batch=_batch(layers),
        notes=tuple(_shortened(note, source) for note in notes),
    )


class _Reader:
    """Reads the layers of one wiring."""

    def __init__(
        self, wiring: Wiring, phase: str, definition: Definition, options: BuildOptions
    ) -> None:
        catalogue.check_dialect(options.dialect)
        self._nodes, message = wiring.nodes, definition.message
        state = net_state(message, "TRAIN" if phase == ALL else phase)
        notes = list(wiring.notes)
        self.graph = Graph(message.name, state, wiring.nodes, [], notes=notes, path=definition.path)
        self._classes = [_class(node, options) for node in self._nodes]
        check_stated_shapes(self.graph, self._classes, options)
        self._built = build_each(self.graph, options, message)
        self._makers = _makers(wiring.nodes, phase == ALL)
        self._shapes = {
            top: tuple(shape)
            for built in self._built
            if isinstance(built, BuiltLayer)
            for top, shape in zip(built.tops, built.shapes, strict=True)
        }
        self._uses = self._sharing()

    def layers(self) -> tuple[DrawnLayer, ...]:
        return tuple(self._layer(position) for position in range(len(self._nodes)))

    def _layer(self, position: int) -> DrawnLayer:
        node, built = self._nodes[position], self._built[position]
        tops = built.tops if isinstance(built, BuiltLayer) else node.tops
        problem = built.brief if isinstance(built, CaffeError) else ""
        return DrawnLayer(
            name=node.name,
            type=node.type,
            kind=UNKNOWN if problem else kind_of(self._classes[position]),
            phase=node.phase,
            place=node.location,
            geometry=in_words(node.message),
            text=definition_text(node.message),
            bottoms=self._bottoms(node),
            tops=tuple(Blob(top.blob, self._shapes.get(top)) for top in tops),
            parameters=tuple(self._parameters(position)),
            multiply_adds=self._multiply_adds(position),
            problem=problem or self._missing_bottom(node),
        )

    def _bottoms(self, node: LayerNode) -> tuple[Blob, ...]:
        return tuple(
            Blob(bottom.blob, self._shapes.get(bottom), self._makers_before(node, bottom))
            for bottom in node.bottoms
        )

    def _makers_before(self, node: LayerNode, bottom: Version) -> tuple[int, ...]:
        # A layer in place on a blob that nobody makes has the version of its own top as bottom.
        return tuple(maker for maker in self._makers.get(bottom, ()) if maker < node.index)

    def _missing_bottom(self, node: LayerNode) -> str:
        missing = [repr(b.blob) for b in node.bottoms if not self._makers_before(node, b)]
        return f"{node.place}: no layer makes bottom {', '.join(missing)}" if missing else ""

    def _parameters(self, position: int) -> list[DrawnParameter]:
        built = self._built[position]
        if not isinstance(built, BuiltLayer) or built.layer is None:
            return []
        found = []
        for index, (spec, use) in enumerate(
            zip(built.layer.specs, self._uses[position], strict=True)
        ):
            own = use.owner == (position, index)
            owner = "" if own else self._nodes[use.owner[0]].name
            count = prod(spec.shape) if own else 0
            found.append(
                DrawnParameter(
                    spec.name, tuple(spec.shape), count, owner, use.lr_mult, use.decay_mult
                )
            )
        return found

    def _sharing(self) -> list[list[ParameterUse]]:
        counts = [
            len(built.layer.specs) if isinstance(built, BuiltLayer) and built.layer else 0
            for built in self._built
        ]
        try:
            return resolve_sharing(self._nodes, counts)
        except NetError as error:
            if all(isinstance(built, BuiltLayer) for built in self._built):
                self.graph.notes.append(str(error))
            return [
                [ParameterUse((i, j), 1.0, 1.0) for j in range(count)]
                for i, count in enumerate(counts)
            ]

    def _multiply_adds(self, position: int) -> int:
        built = self._built[position]
        if not isinstance(built, BuiltLayer) or built.layer is None:
            return 0
        bottoms = [self._shapes[bottom] for bottom in built.bottoms]
        return built.layer.multiply_adds(bottoms, built.shapes)


def _without_folder(layer: DrawnLayer, source: str) -> DrawnLayer:
    """The layer with the file's name in place of its path, since pages are passed on."""
    place, problem = _shortened(layer.place, source), _shortened(layer.problem, source)
    return replace(layer, place=place, problem=problem)


def _shortened(text: str, source: str) -> str:
    """Text with the file's name in place of its path, and without the current folder."""
    if os.path.dirname(source):
        text = text.replace(source, Path(source).name)
    return text.replace(f" (from {os.getcwd()})", "")


def definition_text(message: Message) -> str:
    """A layer's definition as prototxt, without the values of embedded parameters."""
    shown = schema.new("LayerParameter")
    shown.CopyFrom(message)
    shown.ClearField("blobs")
    text = format_text(shown)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}...\n"


def _class(node: LayerNode, options: BuildOptions) -> type[Layer] | None:
    """The class of a layer, None if its type is unknown or could be that of several forks."""
    try:
        return class_of(node, options)
    except CaffeError:
        return None


def _makers(nodes: Sequence[LayerNode], all_phases: bool) -> dict[Version, tuple[int, ...]]:
    """The layers that make each version.

    With the layers of all phases, the data layers of both phases make the same blob: what nobody
    reads before it is made again is made by both.
    """
    read = {bottom for node in nodes for bottom in node.bottoms}
    makers: dict[Version, tuple[int, ...]] = {}
    for node in nodes:
        for top in node.tops:
            makers[top] = (node.index,)
            before = Version(top.blob, top.number - 1)
            if all_phases and before in makers and before not in read:
                makers[top] = (*makers[before], node.index)
    return makers


def _batch(layers: Sequence[DrawnLayer]) -> int:
    """The first extent of the first blob of a layer without bottoms that has more than one."""
    for layer in layers:
        if not layer.bottoms and layer.tops and layer.tops[0].shape:
            return layer.tops[0].shape[0]
    return 1
